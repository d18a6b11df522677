"""Taking a device group away: what it is assigned and its champion go, its history stays.

`fleet/<project>/removed_groups/<group>.json` in the artifact store says who removed it and why, each time.
"""

import json
from dataclasses import dataclass

from edge.formats import check_group
from resources.error_family import Refused
from resources.nearest import there_are
from resources.storage import ArtifactNotFound, ArtifactStore
from visionops_assets.champions.history import groups, production
from visionops_assets.champions.registered_model import Registry
from visionops_assets.config.project import Project
from visionops_assets.delivery.enrolment import devices
from visionops_assets.delivery.reported_devices import read_devices
from visionops_assets.delivery.repository import Repository
from visionops_assets.promotion.production_change import Attribution
from visionops_assets.promotion.rollback import release, retire

_NAMED = 5


class GroupStays(Refused, ValueError):
    """A device group cannot be removed; the message says what comes first."""


@dataclass(frozen=True)
class RemovedGroup:
    """What of a group was there and is gone; all False where it was removed before."""

    group: str
    assignment: bool
    champion: bool
    hold: bool

    def sentence(self, project: str) -> str:
        """In words."""
        gone = [name for name in ("assignment", "champion", "hold") if getattr(self, name)]
        if not gone:
            return f"{self.group} of {project} is removed already"
        are = "is" if len(gone) == 1 else "are"
        what = gone[0] if len(gone) == 1 else f"{', '.join(gone[:-1])} and {gone[-1]}"
        return f"{self.group} of {project} is removed: its {what} {are} gone, its history stays"


def remove_group(
    project: Project,
    group: str,
    by: Attribution,
    *,
    registry: Registry,
    artifacts: ArtifactStore,
    repository: Repository,
) -> RemovedGroup:
    """Let a device group be no more. Killed anywhere, the same again completes it.

    Raises `GroupStays` where something still needs it, `ReasonMissing`, and what the registry and the repository raise.
    """
    by.require_reason()
    check_group(group)
    _require_unneeded(project, group, artifacts)
    model = registry.models.get(project.project)
    published = repository.read().groups
    known = sorted({*published, *groups(model)} - {"all"})
    if group not in known and not _told(artifacts, project, group):
        raise GroupStays(f"{project.project} has no device group {group}; {there_are(group, known)}")
    now = production(model, group)
    owned = now.version is not None or now.foreign or now.incomplete is not None
    if owned or now.held_by is not None or group in published:
        _tell(artifacts, project, group, by)
    retired = owned and retire(registry, project=project.project, by=by, group=group).changed
    released = release(registry, project=project.project, by=by, group=group).changed
    # Last: until then the same command finds the group, and goes on.
    return RemovedGroup(group, repository.remove_group(group), retired, released)


def _require_unneeded(project: Project, group: str, artifacts: ArtifactStore) -> None:
    name = project.project
    if group in project.delivery.groups:
        raise GroupStays(
            f"{group} of {name} is named in `delivery.groups` of its project file, which would bring it back: take it "
            "out there first"
        )
    known = [each for each in devices(artifacts, project.delivered_as) if not each.revoked]
    inside = [each.device for each in known if each.group == group]
    if inside:
        more = f" and {len(inside) - _NAMED} more" if len(inside) > _NAMED else ""
        raise GroupStays(
            f"devices are in {group} of {name}: {', '.join(inside[:_NAMED])}{more}; "
            f"`visionops fleet move {name} {inside[0]} --group GROUP` or `visionops fleet revoke {name} {inside[0]} "
            "--why TEXT` for each comes first"
        )
    reported, _ = read_devices(artifacts, project.delivered_as)
    last = dict(zip(reported["device"], reported["device_group"], strict=True))
    going = [each for each in known if last.get(each.device) == group]
    if going:
        raise GroupStays(
            f"{going[0].device} of {name} was moved to {going[0].group} and reported last from {group}, by whose "
            f"assignment it is told: it goes once it looks and {going[0].group} is assigned something; "
            f"`visionops fleet status {name}` after its next report, or `visionops fleet revoke {name} "
            f"{going[0].device} --why TEXT`"
        )


def _told(artifacts: ArtifactStore, project: Project, group: str) -> list[dict[str, str]]:
    try:
        found: list[dict[str, str]] = json.loads(artifacts.read(_key(project, group)))["removed"]
    except ArtifactNotFound:
        return []
    return found


def _tell(artifacts: ArtifactStore, project: Project, group: str, by: Attribution) -> None:
    told = _told(artifacts, project, group)
    entry = {"at": f"{by.when:%Y-%m-%dT%H:%M:%SZ}", "who": by.who, "why": by.why}
    if told and (told[-1]["who"], told[-1]["why"]) == (by.who, by.why):
        # Of one that was killed.
        return
    artifacts.write_json(_key(project, group), {"removed": [*told, entry]})


def _key(project: Project, group: str) -> str:
    return f"fleet/{project.delivered_as}/removed_groups/{group}.json"
