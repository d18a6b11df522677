"""A version to a group: its bundle, signed once, and the assignment that names it as what the group runs, or tries by a
rollout.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edge.formats import MODEL
from visionops_assets.delivery.repository import Repository
from visionops_assets.delivery.tuf_files import CannotPublish
from visionops_assets.rollout.rollouts import Rollout

# What an assignment says of how devices look and change, and what else one takes over from the one before it.
ASSIGNMENT_OPTIONS = frozenset(
    {"observe", "window", "max_kbps", "poll_every", "report_every", "block", "log"}
)
ASSIGNMENT_KEEPS = ASSIGNMENT_OPTIONS | {"revoked", "moved", "shadow", "trial"}
MakeBundle = Callable[[int], tuple[dict[str, Any], dict[str, bytes]]]


@dataclass(frozen=True)
class Publication:
    """What a group was given. `waits` says for whom, where approvers have not signed yet."""

    group: str
    release: int
    bundle: str
    serial: int | None
    changed: bool
    waits: str | None = None


@dataclass(frozen=True)
class WantedBundle:
    """The bundle of a model that a group is to run. `make` makes it as a release, where none is signed yet.

    `signed` is what of the manifest is asked for, by part: what is signed already cannot be changed, and with
    `exactly` another release says it, no more and no less. `anew`: a new release of it all the same, for what lies
    below the floor.
    """

    onnx_sha256: str
    make: MakeBundle
    signed: Mapping[str, Any]
    exactly: bool = False
    anew: bool = False


@dataclass(frozen=True)
class Trial:
    """A rollout in progress, and the bundle of its candidate."""

    rollout: Rollout
    wanted: WantedBundle


@dataclass(frozen=True)
class Led:
    """What rollouts make of a group's assignment: the one in progress, if any, and the names of those that failed."""

    trial: Trial | None = None
    failed: frozenset[str] = frozenset()


def tries(assignment: Mapping[str, Any], rollout: Rollout | None) -> bool:
    """Whether an assignment has the candidate of a rollout on the devices of its wave; or none, where there is none."""
    if rollout is None:
        return assignment.get("candidate") is None
    candidate, trial = assignment.get("candidate") or {}, assignment.get("trial") or {}
    said = candidate.get("rollout"), trial.get("salt"), trial.get("ppm")
    return said == (rollout.id, rollout.id, rollout.ppm)


def publish(
    repository: Repository,
    group: str,
    wanted: WantedBundle,
    options: Mapping[str, Any],
    *,
    floor: int | None = None,
    keep: Collection[str] = ASSIGNMENT_KEEPS,
    led: Led | None = None,
) -> Publication:
    """Let a group run a model.

    A bundle that was signed before is named again: a rollback takes no approver. `options` replace those of the
    group's last assignment, of which `keep` names what is taken over. The floor rises to what the base replaces, and
    never passes it, so that the way back stays open. `led` is what rollouts make of it. Raises `CannotPublish`.
    """
    repository.complete_bundle()
    before = repository.assignment(group)
    least = int(before["floor"]) if before is not None else 0
    found = _signed_bundle(repository, group, wanted, least)
    if isinstance(found, Publication):
        return found
    bundle, manifest = found
    release = int(manifest["release"])
    content = _carried_over(before or {}, keep, options)
    previous = _replaced_by(bundle, before)
    content |= {
        "base": {"bundle": bundle, "release": release},
        "previous": previous,
        "candidate": None,
        "floor": _floor(group, release, floor, least, previous),
    }
    waits = None
    if led is not None:
        waits = _lead(repository, group, content, led, before or {})
    if waits is not None:
        # Whatever the base should be does not wait for its candidate.
        if before is None or not _says(before, content, ()):
            repository.assign(group, content)
        return waits
    if before is not None and _says(before, content, (ASSIGNMENT_KEEPS - set(keep)) - set(content)):
        return Publication(group, release, bundle, int(before["serial"]), changed=False)
    told = repository.assign(group, content)
    return Publication(group, release, bundle, int(told["serial"]), changed=True)


def _lead(
    repository: Repository, group: str, content: dict[str, Any], led: Led, before: Mapping[str, Any]
) -> Publication | None:
    """Put a rollout's candidate into an assignment, and what failed among what no device takes any more; a Publication
    where approvers have not signed the candidate yet."""
    last = before.get("candidate") or {}
    revoked = set(before.get("revoked", ()))
    if last.get("rollout") in led.failed:
        revoked.add(last["bundle"])
    # Whoever is given it again by a person takes it.
    revoked.discard(content["base"]["bundle"])
    waits = None
    for name in ("trial", "shadow"):
        content.pop(name, None)
    if led.trial is not None:
        found = _signed_bundle(
            repository, group, led.trial.wanted, int(content["floor"]), without=frozenset(revoked)
        )
        if isinstance(found, Publication):
            waits = found
        else:
            (id, manifest), rollout = found, led.trial.rollout
            content["candidate"] = {
                "bundle": id,
                "release": int(manifest["release"]),
                "rollout": rollout.id,
            }
            content["trial"] = {"ppm": rollout.ppm, "salt": rollout.id}
    if revoked or before.get("revoked"):
        content["revoked"] = sorted(revoked)
    return waits


def _signed_bundle(
    repository: Repository,
    group: str,
    wanted: WantedBundle,
    least: int,
    without: frozenset[str] = frozenset(),
) -> tuple[str, dict[str, Any]] | Publication:
    """The signed bundle of a model from a release on, made where there is none; a Publication that says who has to sign
    it first. `without` are those that no device takes any more."""
    waiting = repository.waiting()
    if waiting is not None and ships_model(waiting[0], wanted.onnx_sha256):
        return _waiting_publication(repository, group, waiting[0])
    known = [
        (id, manifest)
        for id, manifest in _shipping(repository, wanted.onnx_sha256, least)
        if id not in without and (not wanted.exactly or is_signed_so(manifest, wanted.signed))
    ]
    if wanted.anew or not known:
        manifest, blobs = wanted.make(repository.next_release())
        if not repository.add_bundle(manifest, blobs):
            return _waiting_publication(repository, group, manifest)
        listed = repository.bundles()
        known = [(id, each) for id, each in listed.items() if each["release"] == manifest["release"]]
    bundle, manifest = known[-1]
    _require_as_signed(manifest, wanted.signed)
    return bundle, manifest


def _shipping(repository: Repository, onnx_sha256: str, least: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Signed bundles of a model by their ids, from a release on."""
    for id, manifest in repository.bundles().items():
        if ships_model(manifest, onnx_sha256) and int(manifest["release"]) >= least:
            yield id, manifest


def _carried_over(
    before: Mapping[str, Any], keep: Collection[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """What a new assignment says of an earlier one, under the options that are given now."""
    kept = {name: value for name, value in before.items() if name in keep}
    return kept | {name: value for name, value in options.items() if value is not None}


def _replaced_by(bundle: str, before: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the group ran before this bundle: that of its last assignment, or what that one replaced."""
    if before is None:
        return None
    base: dict[str, Any] | None = before["base"]
    return before.get("previous") if base is not None and base["bundle"] == bundle else base


def _floor(
    group: str, release: int, asked: int | None, least: int, previous: Mapping[str, Any] | None
) -> int:
    """From which release on devices take one. Raises `CannotPublish` for one that was asked and cannot be."""
    wanted = asked if asked is not None else min(release, int(previous["release"]) if previous else 0)
    if wanted > release:
        raise CannotPublish(f"a floor of {wanted} would refuse release {release} itself")
    if wanted < least and asked is not None:
        raise CannotPublish(f"the floor of {group} is {least}, and devices do not let it fall")
    return max(wanted, min(least, release))


def _says(before: Mapping[str, Any], content: Mapping[str, Any], dropped: Collection[str]) -> bool:
    """Whether an assignment says the same already, and nothing that is dropped."""
    return all(before.get(name) == value for name, value in content.items()) and all(
        before.get(name) is None for name in dropped
    )


def move_device(repository: Repository, device: str, from_group: str, to_group: str) -> bool:
    """Tell a device, by the assignment of the group it looks at, to look at another; False where nobody is told yet.

    A device stays where it is until the other group is assigned something.
    """
    content = repository.assignment(from_group)
    back = repository.assignment(to_group)
    if back is not None and device in back.get("moved", {}):
        moved = {name: group for name, group in back["moved"].items() if name != device}
        repository.assign(to_group, {**_options_of_assignment(back), "moved": moved})
        if content is None:
            # It is still there: nothing could call it to where it was sent.
            return True
    if content is None:
        return False
    repository.assign(
        from_group,
        {**_options_of_assignment(content), "moved": {**content.get("moved", {}), device: to_group}},
    )
    return True


def _options_of_assignment(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in ("serial", "issued_at")}


def is_signed_so(manifest: Mapping[str, Any], asked: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a manifest says what is asked of it, no more and no less: budgets, and tolerances by provider."""
    return bool(
        manifest["budget"] == asked.get("budget", {})
        and manifest["golden"].get("providers", {}) == asked.get("golden", {}).get("providers", {})
    )


def _require_as_signed(manifest: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    for part, values in asked.items():
        for name, value in values.items():
            stated = manifest[part].get(name)
            if stated != value:
                raise CannotPublish(
                    f"release {manifest['release']} of this model is signed with {part} {name} "
                    f"{'unstated' if stated is None else stated}, not {value}: --anew ships it as another release"
                )


def ships_model(manifest: Mapping[str, Any], onnx_sha256: str) -> bool:
    """Whether a manifest ships the model of this file."""
    return bool(manifest["files"][MODEL]["sha256"] == onnx_sha256)


def _waiting_publication(repository: Repository, group: str, manifest: Mapping[str, Any]) -> Publication:
    waiting = repository.waiting()
    assert waiting is not None
    return Publication(group, int(manifest["release"]), "", None, changed=False, waits=waiting[1])
