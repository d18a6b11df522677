"""A version to a group: its bundle, signed once, and the assignment that names it as what the group runs."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from edge.formats import MODEL
from visionops_assets.delivery.repository import Repository
from visionops_assets.delivery.tuf_files import CannotPublish

# What an assignment says of how devices look and change, and what else one takes over from the one before it.
OPTIONS = frozenset({"observe", "window", "max_kbps", "poll_every"})
KEPT = OPTIONS | {"report_every", "revoked", "moved", "shadow", "trial"}


@dataclass(frozen=True)
class Publication:
    """What a group was given. `waits` says for whom, where approvers have not signed yet."""

    group: str
    release: int
    bundle: str
    serial: int | None
    changed: bool
    waits: str | None = None


Make = Callable[[int], tuple[dict[str, Any], dict[str, bytes]]]


def publish(
    repository: Repository,
    group: str,
    onnx_sha256: str,
    make: Make,
    options: Mapping[str, Any],
    *,
    floor: int | None = None,
    anew: bool = False,
    signed: Mapping[str, Any] | None = None,
    keep: Collection[str] = KEPT,
    exactly: bool = False,
) -> Publication:
    """Let a group run the model of this file. `make` makes its bundle as a release, where none is signed yet.

    A bundle that was signed before is named again: a rollback takes no approver. `anew`: a new release of it all the
    same, for what lies below the floor. `options` replace those of the group's last assignment. The floor rises to
    what the base replaces, and never passes it, so that the way back stays open. `signed` is what of the manifest was
    asked for, by part: what is signed already cannot be changed, and with `exactly` another release says it, no more
    and no less. `keep` names what is taken over from the group's last assignment. Raises `CannotPublish`.
    """
    repository.complete_bundle()
    before = repository.assignment(group)
    waiting = repository.waiting()
    if waiting is not None and is_of(waiting[0], onnx_sha256):
        return _waits(repository, group, waiting[0])
    listed = repository.bundles()
    least = int(before["floor"]) if before is not None else 0
    known = [
        (id, manifest)
        for id, manifest in listed.items()
        if is_of(manifest, onnx_sha256)
        and int(manifest["release"]) >= least
        and (not exactly or is_signed_so(manifest, signed or {}))
    ]
    if anew or not known:
        manifest, blobs = make(repository.next_release())
        if not repository.add_bundle(manifest, blobs):
            return _waits(repository, group, manifest)
        listed = repository.bundles()
        known = [(id, each) for id, each in listed.items() if each["release"] == manifest["release"]]
    bundle, manifest = known[-1]
    _require_as_signed(manifest, signed or {})
    release = int(manifest["release"])
    content = {name: value for name, value in (before or {}).items() if name in keep}
    content |= {name: value for name, value in options.items() if value is not None}
    replaced = before["base"] if before is not None else None
    if replaced is not None and replaced["bundle"] == bundle:
        previous = before.get("previous") if before is not None else None
    else:
        previous = replaced
    wanted = floor if floor is not None else min(release, int(previous["release"]) if previous else 0)
    if wanted > release:
        raise CannotPublish(f"a floor of {wanted} would refuse release {release} itself")
    if wanted < least and floor is not None:
        raise CannotPublish(f"the floor of {group} is {least}, and devices do not let it fall")
    content |= {
        "base": {"bundle": bundle, "release": release},
        "previous": previous,
        "candidate": None,
        "floor": max(wanted, min(least, release)),
    }
    dropped = (KEPT - set(keep)) - set(content)
    same = before is not None and all(before.get(name) == value for name, value in content.items())
    same = same and all((before or {}).get(name) is None for name in dropped)
    if same:
        assert before is not None
        return Publication(group, release, bundle, int(before["serial"]), changed=False)
    told = repository.assign(group, content)
    return Publication(group, release, bundle, int(told["serial"]), changed=True)


def move_device(repository: Repository, device: str, from_group: str, to_group: str) -> bool:
    """Tell a device, by the assignment of the group it looks at, to look at another; False where nobody is told yet.

    A device stays where it is until the other group is assigned something.
    """
    content = repository.assignment(from_group)
    back = repository.assignment(to_group)
    if back is not None and device in back.get("moved", {}):
        moved = {name: group for name, group in back["moved"].items() if name != device}
        repository.assign(to_group, {**_options(back), "moved": moved})
        if content is None:
            # It is still there: nothing could call it to where it was sent.
            return True
    if content is None:
        return False
    repository.assign(
        from_group, {**_options(content), "moved": {**content.get("moved", {}), device: to_group}}
    )
    return True


def _options(content: Mapping[str, Any]) -> dict[str, Any]:
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


def is_of(manifest: Mapping[str, Any], onnx_sha256: str) -> bool:
    """Whether a manifest ships the model of this file."""
    return bool(manifest["files"][MODEL]["sha256"] == onnx_sha256)


def _waits(repository: Repository, group: str, manifest: Mapping[str, Any]) -> Publication:
    waiting = repository.waiting()
    assert waiting is not None
    return Publication(group, int(manifest["release"]), "", None, changed=False, waits=waiting[1])
