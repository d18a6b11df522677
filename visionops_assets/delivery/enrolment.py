"""Which devices a project has: each is provisioned once, with a key of its own, and may be moved or revoked.

A record a device, `fleet/<project>/devices/<device>.json` in the artifact store; what a device is given is one folder.
"""

import json
import shutil
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from edge.formats import check_device, check_group
from edge.reports import key_id
from edge.settings import FILE, KEY, ROOT, Settings
from resources.error_family import Refused
from resources.nearest import there_are
from resources.storage import ArtifactNotFound, ArtifactStore
from visionops_assets.delivery.signers import write_key
from visionops_assets.monitoring.device_files import DeviceKey

FORMAT = 1
# Of one device; what an older one signed waits no more.
MOST_REPLACED = 3
_THREADS = 8
GITIGNORE = ".gitignore"


class EnrolmentError(Refused, ValueError):
    """A device cannot be provisioned, moved or revoked as asked."""


@dataclass(frozen=True)
class Enrolled:
    """One device: its group, its public key (PEM), and since when and by whom it is known."""

    project: str
    device: str
    group: str
    key_id: str
    public_key: str
    enrolled_at: str
    who: str
    revoked: str = ""
    # The keys that this one replaced, newest first.
    replaced: tuple[Mapping[str, str], ...] = ()
    format: int = FORMAT


# By store and project, by device what its record was read as, and of which writing.
_read_before: dict[tuple[str, str], Mapping[str, tuple[tuple[object, ...], Enrolled | None]]] = {}


def enrolled(store: ArtifactStore, project: str, device: str) -> Enrolled | None:
    """A device's record, None where it has none."""
    try:
        return Enrolled(**json.loads(store.read(_key(project, device))))
    except ArtifactNotFound:
        return None


def devices(store: ArtifactStore, project: str) -> list[Enrolled]:
    """All devices of a project, by name. Asked again, only records that were written since are read."""
    stamps = store.stamps(f"fleet/{project}/devices")
    there = {name.removesuffix(".json"): stamp for name, stamp in stamps.items() if name.endswith(".json")}
    known = _read_before.get((store.root, project), {})
    new = [name for name, stamp in there.items() if name not in known or known[name][0] != stamp]
    with ThreadPoolExecutor(_THREADS) as threads:
        read = dict(zip(new, threads.map(lambda name: enrolled(store, project, name), new), strict=True))
    found = {name: (stamp, read[name] if name in read else known[name][1]) for name, stamp in there.items()}
    # Replaced whole: of two threads that ask at once, both are right.
    _read_before[store.root, project] = found
    return [each for _, (_, each) in sorted(found.items()) if each is not None]


def any_enrolled(store: ArtifactStore, project: str) -> bool:
    """Whether a project has devices at all."""
    return any(name.endswith(".json") for name in store.names(f"fleet/{project}/devices"))


def device_keys(store: ArtifactStore, project: str) -> dict[str, DeviceKey]:
    """By which key each device of a project speaks, by name; revoked ones too, so that they are known as such."""
    return {
        each.device: DeviceKey(
            each.key_id,
            each.public_key,
            each.revoked,
            tuple(DeviceKey(old["key_id"], old["public_key"]) for old in each.replaced),
        )
        for each in devices(store, project)
    }


def require_new(
    store: ArtifactStore, project: str, group: str, device: str, to: Path, *, again: bool = False
) -> None:
    """Raise `EnrolmentError` or ValueError where a device cannot be provisioned so; nothing is changed yet."""
    check_group(group)
    check_device(device)
    known = enrolled(store, project, device)
    if known is not None and not again:
        raise EnrolmentError(
            f"{device} of {project} is enrolled since {known.enrolled_at}, in group {known.group}: --replace gives it "
            f"another key, `visionops fleet move {project} {device} --group {group}` another group"
        )
    above = next((each for each in (to, *to.parents) if each.exists()), to)
    if not above.is_dir():
        raise EnrolmentError(f"{above} is a file: name a new folder with --to")
    if to.exists() and any(to.iterdir()) and not again:
        raise EnrolmentError(f"{to} is not empty: name a new folder, or --replace what is there")


@dataclass(frozen=True)
class NewDevice:
    """A device before it is enrolled, and the folder that it gets.

    `settings` are those of `device.json` beside project, group and device; `root` is what it trusts first.
    """

    project: str
    group: str
    device: str
    folder: Path
    root: bytes
    settings: Mapping[str, Any]


def provision(
    store: ArtifactStore, new: NewDevice, *, who: str, when: datetime, again: bool = False
) -> Enrolled:
    """Enrol a device and write its folder: settings, root of trust, its own key. Raises `EnrolmentError`.

    `again` replaces the device's key: what the old one signed before the new one speaks counts, for reports may wait on
    the device; not of a device that was revoked.
    """
    project, group, device, to = new.project, new.group, new.device, new.folder
    require_new(store, project, group, device, to, again=again)
    to.parent.mkdir(parents=True, exist_ok=True)
    partial = to.with_name(f".{to.name}.{uuid.uuid4().hex}")
    partial.mkdir(mode=0o700)
    try:
        write_key(partial / KEY)
        (partial / ROOT).write_bytes(new.root)
        content = Settings(folder=to, project=project, group=group, device=device, **new.settings).to_json()
        # A private key lies here: where the folder is in a checkout, `git add .` leaves it out.
        (partial / GITIGNORE).write_text("*\n")
        (partial / FILE).write_text(json.dumps(content, indent=2) + "\n")
        private = load_pem_private_key((partial / KEY).read_bytes(), None)
        assert isinstance(private, Ed25519PrivateKey)
        public = private.public_key()
        record = Enrolled(
            project=project,
            device=device,
            group=group,
            key_id=key_id(public),
            public_key=public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
            enrolled_at=f"{when:%Y-%m-%dT%H:%M:%SZ}",
            who=who,
            replaced=_still_valid(enrolled(store, project, device)),
        )
        _write(store, record)
        to.mkdir(exist_ok=True)
        # What the device keeps beside them, its models, stays.
        for name in (GITIGNORE, KEY, ROOT, FILE):
            (partial / name).replace(to / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record


def revoke(
    store: ArtifactStore, project: str, device: str, *, who: str, why: str, when: datetime
) -> Enrolled:
    """From now on nothing that a device signs counts. Raises `EnrolmentError`."""
    known = _known(store, project, device)
    if known.revoked:
        raise EnrolmentError(f"{device} of {project} is revoked already: {known.revoked}")
    record = replace(known, revoked=f"{when:%Y-%m-%dT%H:%M:%SZ} by {who}: {why}")
    _write(store, record)
    return record


def move(store: ArtifactStore, project: str, device: str, group: str) -> tuple[Enrolled, str]:
    """Record that a device belongs to another group; the record, and where it was. Raises `EnrolmentError`."""
    check_group(group)
    known = _known(store, project, device)
    record = replace(known, group=group)
    _write(store, record)
    return record, known.group


def _still_valid(known: Enrolled | None) -> tuple[Mapping[str, str], ...]:
    """The keys of a device whose key is replaced, newest first."""
    if known is None or known.revoked:
        return ()
    own = {"key_id": known.key_id, "public_key": known.public_key}
    return (own, *known.replaced)[:MOST_REPLACED]


def _known(store: ArtifactStore, project: str, device: str) -> Enrolled:
    known = enrolled(store, project, device)
    if known is None:
        names = [each.device for each in devices(store, project)]
        raise EnrolmentError(f"{project} has no device {device}; {there_are(device, names)}")
    return known


def _write(store: ArtifactStore, record: Enrolled) -> None:
    store.write(_key(record.project, record.device), json.dumps(asdict(record), indent=1).encode())


def _key(project: str, device: str) -> str:
    return f"fleet/{project}/devices/{device}.json"
