"""What `edge_bundle` shows in the UI."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from visionops_assets.delivery.following import Standing
from visionops_assets.delivery.publishing import Publication
from visionops_assets.delivery.repository import Repository
from visionops_assets.shells.asset_options import SAID
from visionops_assets.shells.outputs import lines, text_table

_GROUPS = ("group", "version", "release", "serial", "bundle", "says")


def in_words(done: Sequence[Publication], found: Sequence[Standing]) -> str:
    """What was given to whom, in one sentence."""
    versions = {each.group: each.version for each in found}
    given = [
        f"{each.group} gets version {versions[each.group]} (release {each.release})"
        for each in done
        if each.changed
    ]
    waits = [f"{each.group} waits for approvers ({each.waits})" for each in done if each.waits is not None]
    kept = [each.sentence() for each in found if each.problem]
    return "; ".join([*given, *waits, *kept]) or ("every group is assigned what it should run")


def bundle_metadata(
    repository: Repository, done: Sequence[Publication], found: Sequence[Standing], renewed: Sequence[str]
) -> dict[str, Any]:
    """Every group with what it is assigned, the bundles that groups run with their files, and what ends when."""
    running = repository.running()
    waits = {each.group: each.waits for each in done if each.waits is not None}
    said = {each.group: each.sentence() for each in found}
    rows = [_group_row(group, running.get(group), said, waits) for group in sorted({*running, *said})]
    manifests = {manifest["release"]: manifest for _, manifest in running.values()}
    shown = in_words(done, found)
    return {
        "reason": lines("reason", shown),
        "groups": text_table(_GROUPS, rows),
        "bundles": _bundles(manifests),
        "ends": _expiries(repository),
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
