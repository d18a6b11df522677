"""What `edge_bundle` shows in the UI; `devices`: what answers on each, as their reports tell, by group; `rollout`, a
partition each.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from resources.models.registry import ModelRegistry
from resources.storage import ArtifactStore
from visionops_assets.common.keys import devices_run_key
from visionops_assets.config.project import Project
from visionops_assets.delivery.devices_now import STATES, DeviceNow, enrolled_now, groups_now
from visionops_assets.delivery.following import Standing
from visionops_assets.delivery.publishing import Publication
from visionops_assets.delivery.repository import Repository
from visionops_assets.delivery.rollout_page import RolloutNow, current_rollouts, evidence_png
from visionops_assets.shells.asset_options import (
    DEVICES,
    EDGE_BUNDLE,
    IN_PRODUCTION,
    ROLLOUT,
    SAID,
    asset_key,
    rollouts_of_project,
)
from visionops_assets.shells.outputs import lines, picture, text_table

_GROUPS = ("group", "version", "release", "serial", "bundle", "says")
# Which of its metadata says what was shown, so that the same is not told again.
SHOWN = "shown"
# Those with something to look at come first; `fleet status --json` has them all.
_DEVICES_SHOWN = 60
_MOMENT = "%Y-%m-%d %H:%M"
_ENTRIES = ("when (UTC)", "what", "by", "why")
_DEVICE_GROUPS = ("group", "devices", "run", "states", "silent", "problems", "last report (UTC)")
_DEVICES = ("device", "group", "state", "version", "release", "problem", "last report (UTC)", "images")


def in_words(done: Sequence[Publication], found: Sequence[Standing], led: Sequence[str] = ()) -> str:
    """What was given to whom, in one sentence; `led` is what rollouts did first."""
    versions = {each.group: each.version for each in found}
    tried = {
        each.group: f", version {each.candidate} in {each.wave}"
        for each in found
        if each.candidate is not None
    }
    given = [
        f"{each.group} gets version {versions[each.group]} (release {each.release}){tried.get(each.group, '')}"
        for each in done
        if each.changed
    ]
    waits = [f"{each.group} waits for approvers ({each.waits})" for each in done if each.waits is not None]
    kept = [each.sentence() for each in found if each.problem]
    return "; ".join([*led, *given, *waits, *kept]) or ("every group is assigned what it should run")


def bundle_metadata(
    project: Project,
    repository: Repository,
    done: Sequence[Publication],
    found: Sequence[Standing],
    renewed: Sequence[str],
    led: Sequence[str] = (),
) -> dict[str, Any]:
    """Every group with what it is assigned, the bundles that groups run with their files, and what ends when."""
    running = repository.running()
    waits = {each.group: each.waits for each in done if each.waits is not None}
    said = {each.group: each.sentence() for each in found}
    rows = [_group_row(group, running.get(group), said, waits) for group in sorted({*running, *said})]
    manifests = {manifest["release"]: manifest for _, manifest in running.values()}
    shown = in_words(done, found, led)
    return {
        "reason": lines("reason", shown),
        "groups": text_table(_GROUPS, rows),
        "bundles": _bundles(manifests),
        "ends": _expiries(repository),
        "devices": dg.MetadataValue.asset(asset_key(project, DEVICES)),
        "signed_anew": ", ".join(renewed) or "nothing was old",
        SAID: shown,
    }


def _group_row(
    group: str,
    running: tuple[dict[str, Any], dict[str, Any]] | None,
    said: Mapping[str, str],
    waits: Mapping[str, str],
) -> tuple[str, ...]:
    tells = f"waits: {waits[group]}" if group in waits else said.get(group, "published to by hand")
    if running is None:
        return group, "", "", "", "", tells
    assignment, manifest = running
    return (
        group,
        str(manifest["model"]["version"]),
        str(manifest["release"]),
        str(assignment["serial"]),
        assignment["base"]["bundle"][:12],
        tells,
    )


def _bundles(manifests: Mapping[int, Mapping[str, Any]]) -> dg.TableMetadataValue:
    columns = ("release", "version", "file", "bytes", "sha256", "requires", "golden", "verdict")
    rows = []
    for release, manifest in sorted(manifests.items(), reverse=True):
        requires = manifest["requires"]
        needs = (
            f"ONNX Runtime {requires['onnxruntime']}, opset {requires['opset']}, {requires['memory_mb']} MB, "
            f"{', '.join(requires.get('machine', []))}"
        )
        for name, file in sorted(manifest["files"].items()):
            rows.append(
                (
                    str(release),
                    str(manifest["model"]["version"]),
                    name,
                    f"{file['size']:,}",
                    file["sha256"][:16],
                    needs,
                    f"within {manifest['golden']['tolerance']}",
                    str(manifest["gate"]["verdict"] or "none")[:12],
                )
            )
    return text_table(columns, rows)


def _expiries(repository: Repository) -> dg.TableMetadataValue:
    columns = ("role", "ends (UTC)", "days")
    now = datetime.now(UTC)
    rows = [
        (role, f"{end:%Y-%m-%d %H:%M}", str((end - now).days))
        for role, end in sorted(repository.read().expiries().items(), key=lambda each: each[1])
    ]
    return text_table(columns, rows)


def devices_shown(
    instance: dg.DagsterInstance, project: Project, artifacts: ArtifactStore, edge: ArtifactStore
) -> dg.AssetMaterialization | None:
    """The event that shows the devices as they are now; None where the page shows that already, or there are none. By
    group, which versions they run is stored for `in_production`.

    Raises `NotPublished`, `CannotPublish`, and what the artifact store raises.
    """
    from visionops_assets.delivery.signers import Keys

    running = Repository(edge, project.delivered_as, Keys({})).running()
    devices = enrolled_now(project, artifacts, running, datetime.now(UTC))
    key, shown = asset_key(project, DEVICES), _identity(devices)
    event = instance.get_latest_materialization_event(key)
    told = event.asset_materialization.metadata.get(SHOWN) if event and event.asset_materialization else None
    if (not devices and told is None) or (told is not None and told.value == shown):
        return None
    artifacts.write_json(devices_run_key(project.delivered_as), _versions(devices))
    return dg.AssetMaterialization(
        key,
        description=devices_in_words(devices),
        metadata={**devices_metadata(project, devices), SHOWN: shown},
    )


def _versions(devices: Sequence[DeviceNow]) -> dict[str, str]:
    """Without numbers of devices, which change with each report."""
    return {
        group: ", ".join(
            f"version {number}" for number in sorted({number for number, _ in each.versions}, reverse=True)
        )
        for group, each in groups_now(devices).items()
    }


def devices_in_words(devices: Sequence[DeviceNow]) -> str:
    """What the groups run, in a sentence."""
    told = [f"{group}: {each.runs()}" for group, each in groups_now(devices).items()]
    return "; ".join(told) or "no device is enrolled"


def devices_metadata(project: Project, devices: Sequence[DeviceNow]) -> dict[str, Any]:
    """By group and by device, with links to what they are given and what is in production."""
    groups = [
        (
            each.group,
            str(each.devices),
            each.runs(),
            ", ".join(f"{each.states[state]} {state}" for state in STATES if each.states[state]),
            ", ".join(each.silent),
            ", ".join(f"{name} on {count}" for name, count in each.problems.items()),
            _when(each.last_report),
        )
        for each in groups_now(devices).values()
    ]
    ordered = sorted(devices, key=lambda each: (each.state == "current" and not each.problem, each.device))
    rows = [
        (
            each.device,
            each.group,
            each.state,
            *("" if number is None else str(number) for number in (each.version, each.release)),
            each.problem or "",
            _when(each.last_report),
            f"{each.frames:,}",
        )
        for each in ordered[:_DEVICES_SHOWN]
    ]
    more = len(devices) - len(rows)
    return {
        "reason": lines("reason", devices_in_words(devices)),
        "groups": text_table(_DEVICE_GROUPS, groups),
        "devices": text_table(_DEVICES, rows),
        **(
            {
                "more": f"{more} more, of which nothing is wrong: `visionops fleet status {project.project} --json`"
            }
            if more > 0
            else {}
        ),
        "given": dg.MetadataValue.asset(asset_key(project, EDGE_BUNDLE)),
        "in_production": dg.MetadataValue.asset(asset_key(project, IN_PRODUCTION)),
    }


def _identity(devices: Sequence[DeviceNow]) -> str:
    """Changes with what a person would look at, not with each report."""
    said = [
        [each.device, each.group, each.state, each.version, each.release, each.problem] for each in devices
    ]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def _when(at: datetime | None) -> str:
    return f"{at:{_MOMENT}}" if at is not None else ""


def rollouts_shown(
    instance: dg.DagsterInstance, project: Project, registry: ModelRegistry, store: ArtifactStore
) -> list[dg.AssetMaterialization]:
    """The events that show rollouts as they are now; none of those that are shown so already. What ended long ago was
    told when it ended. Raises what `current_rollouts` and MLflow raise."""
    found = current_rollouts(project, registry.models.get(project.project), store)
    told = [(each, _identity_of(each)) for each in found]
    news = [(each, shown) for each, shown in told if _last_shown(instance, project, each) != shown]
    if news:
        names = [each.rollout.id for each, _ in news]
        instance.add_dynamic_partitions(rollouts_of_project(project.project).name or "", names)
    return [
        dg.AssetMaterialization(
            asset_key(project, ROLLOUT),
            description=each.sentence(),
            metadata={**rollout_metadata(project, each), SHOWN: shown},
            partition=each.rollout.id,
        )
        for each, shown in news
    ]


def rollout_metadata(project: Project, found: RolloutNow) -> dict[str, Any]:
    """The page, evidence over time, waves and steps of a rollout, with links to what it is about."""
    look, rollout = found.look, found.rollout
    shown: dict[str, Any] = {
        "reason": lines("reason", found.sentence()),
        "state": found.state,
        "verdict": look.verdict.word if look is not None else "not looked at yet",
        "in_detail": dg.MetadataValue.md(found.page().to_markdown()),
        "version": rollout.version,
        "wave": f"{rollout.wave + 1} of {len(rollout.waves)}",
        "steps": text_table(
            _ENTRIES,
            [(f"{each.when:{_MOMENT}}", each.kind, each.who, each.why) for each in found.entries],
        ),
        "given": dg.MetadataValue.asset(asset_key(project, EDGE_BUNDLE)),
        "devices": dg.MetadataValue.asset(asset_key(project, DEVICES)),
        "in_production": dg.MetadataValue.asset(asset_key(project, IN_PRODUCTION)),
    }
    if look is not None and look.history:
        waves = [each for each in found.entries if each.kind == "wave"]
        shown["evidence"] = picture(evidence_png(look, waves), "evidence against the candidate over time")
    if look is not None and look.failures:
        shown["refused_on"] = text_table(
            ("device", "event", "why", "measured"),
            [(each.device, each.event, each.why, each.detail) for each in look.failures[:_DEVICES_SHOWN]],
        )
    return shown


def _identity_of(found: RolloutNow) -> str:
    """Changes with each step and each look that was news."""
    last = found.look.history[-1]["at"] if found.look is not None and found.look.history else ""
    content = json.dumps([len(found.entries), found.state, last])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _last_shown(instance: dg.DagsterInstance, project: Project, found: RolloutNow) -> str | None:
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=asset_key(project, ROLLOUT), asset_partitions=[found.rollout.id]),
        limit=1,
    ).records
    told = records[0].asset_materialization if records else None
    shown = told.metadata.get(SHOWN) if told is not None else None
    return str(shown.value) if shown is not None else None
