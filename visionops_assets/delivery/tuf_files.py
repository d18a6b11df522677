"""The signed metadata of a project's repository: read as a publisher does, changed whole or not at all.

Roles are signed anew, then the snapshot that names them, then `timestamp.json`: before that is there, nothing is
published. A publisher reads what it leads to, never what else lies there. A role may get other keys: devices follow
by themselves, and at each moment find signatures that they know.
"""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import DelegatedRole, Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

from resources.error_family import NotFound, Refused
from resources.storage import ArtifactNotFound, ArtifactStore
from visionops_assets.delivery.signers import Keys

TIMESTAMP = "metadata/timestamp.json"
LIVES = {
    "root": timedelta(days=365),
    "targets": timedelta(days=365),
    "bundles": timedelta(days=365),
    "assign": timedelta(days=30),
    "snapshot": timedelta(days=30),
    "timestamp": timedelta(days=7),
}
S = TypeVar("S", Snapshot, Timestamp, Targets)
_SERIALIZER = JSONSerializer(compact=True)


class NotPublished(NotFound):
    """The project has no repository yet, or not this group or bundle."""


# Of a role that assigned a group which is no more: the role stays, for a snapshot never lacks what an older one had.
REMOVED, LAST_SERIAL = "x_removed", "x_last_serial"


class CannotPublish(Refused, ValueError):
    """A repository cannot be changed as asked. Names what is missing."""


@dataclass
class Published:
    """What `timestamp.json` leads to."""

    root: Metadata[Root]
    targets: Metadata[Targets]
    snapshot: Metadata[Snapshot]
    timestamp: Metadata[Timestamp]
    # By role name: `bundles` and `assign-<group>`.
    delegated: dict[str, Metadata[Targets]] = field(default_factory=dict)

    @property
    def groups(self) -> list[str]:
        """The device groups that were not removed, by name."""
        return sorted(name.removeprefix("assign-") for name in self.delegated if self._is_group(name))

    def expiries(self) -> dict[str, datetime]:
        """When each role's metadata ends."""
        found: dict[str, Metadata[Any]] = {
            "root": self.root,
            "targets": self.targets,
            **{
                name: each
                for name, each in self.delegated.items()
                if name == "bundles" or self._is_group(name)
            },
        }
        return {
            **{name: each.signed.expires for name, each in found.items()},
            "snapshot": self.snapshot.signed.expires,
            "timestamp": self.timestamp.signed.expires,
        }

    def _is_group(self, name: str) -> bool:
        # No role ever leaves a snapshot: devices would take that for an attack.
        return name.startswith("assign-") and not self.delegated[name].signed.unrecognized_fields.get(REMOVED)


class TufFiles:
    """The signed metadata of a project in a store. Its caller holds the project's lock while it changes anything."""

    def __init__(
        self,
        store: ArtifactStore,
        project: str,
        keys: Keys,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.project, self.keys = project, keys
        self._store, self._now = store, now

    def read(self) -> Published:
        """What is published. Raises `NotPublished`."""
        try:
            timestamp = Metadata[Timestamp].from_bytes(self._store.read(self._key(TIMESTAMP)))
        except ArtifactNotFound as error:
            raise NotPublished(
                f"{self.project} has no delivery repository yet: `visionops fleet keys init {self.project}` makes it"
            ) from error
        try:
            snapshot = Metadata[Snapshot].from_bytes(
                self._read(f"{timestamp.signed.snapshot_meta.version}.snapshot.json")
            )
            versions = {
                name.removesuffix(".json"): meta.version for name, meta in snapshot.signed.meta.items()
            }
            loaded = {
                name: Metadata[Targets].from_bytes(self._read(f"{version}.{name}.json"))
                for name, version in versions.items()
            }
            root = Metadata[Root].from_bytes(self._read(f"{self._newest_root()}.root.json"))
        except (ArtifactNotFound, DeserializationError) as error:
            raise CannotPublish(
                f"the repository of {self.project} is damaged: {error}; restore it from a copy"
            ) from error
        return Published(root, loaded.pop("targets"), snapshot, timestamp, loaded)

    def bootstrap(self) -> bytes:
        """The newest root, which a device is provisioned with."""
        self.read()
        return self._read(f"{self._newest_root()}.root.json")

    def refresh(self, least: float = 0.5) -> list[str]:
        """Sign anew what this machine has keys for and has less than this share of its life left; returns which."""
        published = self.read()
        renewed = [name for name in self.aged(published, least) if self._can_sign(published, name)]
        if renewed:
            self._publish(
                published, [name for name in renewed if name not in ("root", "snapshot", "timestamp")]
            )
        return renewed

    def aged(self, published: Published, least: float = 0.5) -> list[str]:
        """The roles of which less than this share of their life is left."""
        now = self._now()
        return [name for name, expires in published.expiries().items() if expires - now < life(name) * least]

    def _publish(
        self,
        published: Published,
        names: Iterable[str],
        also: Mapping[str, list[Signer]] | None = None,
    ) -> None:
        """Sign these roles anew, and what follows from them."""
        targets = published.targets.signed
        for name in names:
            each = published.targets if name == "targets" else published.delegated[name]
            kind = _kind(name)
            each.signed.version += 1
            each.signed.expires = self._expires(kind)
            each.signatures.clear()
            delegator = published.root.signed if name == "targets" else targets
            self._sign(each, (also or {}).get(kind) or self.keys.signers(kind), delegator, name)
        for name in names:
            each = published.targets if name == "targets" else published.delegated[name]
            self._write(f"metadata/{each.signed.version}.{name}.json", each)
        self._commit(published, also)

    def _commit(self, published: Published, also: Mapping[str, list[Signer]] | None = None) -> None:
        """Snapshot, then timestamp: before the latter is there, nothing is published."""
        snapshot, timestamp = published.snapshot, published.timestamp
        snapshot.signed.meta = {
            f"{name}.json": MetaFile(each.signed.version)
            for name, each in {"targets": published.targets, **published.delegated}.items()
        }
        timestamp.signed.snapshot_meta = MetaFile(snapshot.signed.version + 1)
        for name, each in (("snapshot", snapshot), ("timestamp", timestamp)):
            each.signed.version += 1
            each.signed.expires = self._expires(name)
            each.signatures.clear()
            signers = (also or {}).get(name) or self.keys.signers(name)
            self._sign(each, signers, published.root.signed, name)
        self._write(f"metadata/{snapshot.signed.version}.snapshot.json", snapshot)
        self._write(TIMESTAMP, timestamp)

    def _sign(self, each: Metadata[Any], signers: list[Signer], delegator: Root | Targets, name: str) -> None:
        for signer in distinct(signers):
            each.sign(signer, append=True)
        if not is_signed(delegator, name, each):
            wanted = ", ".join(key[:12] for key in sorted(role_keys(delegator, name)))
            kind = _kind(name)
            raise CannotPublish(
                f"{name} of {self.project} has to be signed by keys that are not here (of {wanted}): set "
                f"VISIONOPS_EDGE_KEYS, or `visionops fleet keys rotate {kind}` after a change of keys"
            )

    def _can_sign(self, published: Published, name: str) -> bool:
        if name in ("root", "snapshot", "timestamp"):
            return name != "root"
        delegator = published.root.signed if name == "targets" else published.targets.signed
        here = {signer.public_key.keyid for signer in self.keys.signers(_kind(name))}
        threshold = (
            delegator.roles[name].threshold
            if isinstance(delegator, Root)
            else delegated_role(delegator, name).threshold
        )
        return len(here & role_keys(delegator, name)) >= threshold

    def _authorise(self, root: Root, role: str) -> None:
        for keyid in list(root.roles[role].keyids):
            root.revoke_key(keyid, role)
        declared = self.keys.roles[role]
        for key in declared.keys:
            root.add_key(key.public, role)
        root.roles[role].threshold = declared.threshold

    def _delegate(self, targets: Targets, name: str, paths: list[str], kind: str) -> None:
        delegations = targets.delegations
        assert delegations is not None and delegations.roles is not None
        declared = self.keys.roles[kind]
        if name in delegations.roles:
            for keyid in list(delegations.roles[name].keyids):
                targets.revoke_key(keyid, name)
        delegations.roles[name] = DelegatedRole(name, [], declared.threshold, terminating=True, paths=paths)
        for key in declared.keys:
            targets.add_key(key.public, name)

    def _newest_root(self) -> int:
        names = self._store.names(self._key("metadata"))
        roots = [name.partition(".")[0] for name in names if name.endswith(".root.json")]
        return max(int(number) for number in roots if number.isdigit())

    def _expires(self, role: str) -> datetime:
        return (self._now() + LIVES[role]).replace(microsecond=0)

    def _key(self, name: str) -> str:
        return f"{self.project}/{name}"

    def _read(self, name: str) -> bytes:
        return self._store.read(self._key(f"metadata/{name}"))

    def _write(self, name: str, metadata: Metadata[Any]) -> None:
        self._store.write(self._key(name), metadata.to_bytes(_SERIALIZER))


def unborn(signed: S) -> S:
    """Before its first version, which signing it makes."""
    signed.version = 0
    return signed


def life(name: str) -> timedelta:
    """How long what a role signs is believed."""
    return LIVES[_kind(name)]


def _kind(name: str) -> str:
    return "assign" if name.startswith("assign-") else name


def target_file(path: str, info: TargetFile) -> str:
    """Where a target lies: named by its digest, as consistent snapshots are."""
    folder, _, name = path.rpartition("/")
    return f"targets/{folder}/{info.hashes['sha256']}.{name}"


def delegated_role(targets: Targets, name: str) -> DelegatedRole:
    """Who signs a role, as targets says."""
    assert targets.delegations is not None and targets.delegations.roles is not None
    return targets.delegations.roles[name]


def role_keys(delegator: Root | Targets, name: str) -> set[str]:
    """The ids of the keys that a role takes."""
    return set(
        delegator.roles[name].keyids
        if isinstance(delegator, Root)
        else delegated_role(delegator, name).keyids
    )


def is_signed(delegator: Root | Targets, name: str, each: Metadata[Any]) -> bool:
    """Whether enough of a role's keys signed it."""
    try:
        delegator.verify_delegate(name, each.signed_bytes, each.signatures)
    except (UnsignedMetadataError, RepositoryError, ValueError):
        return False
    return True


def distinct(signers: Iterable[Signer]) -> list[Signer]:
    """Signers, one a key."""
    found: dict[str, Signer] = {}
    for signer in signers:
        found.setdefault(signer.public_key.keyid, signer)
    return list(found.values())


class KeyChanges(TufFiles):
    """Signed metadata whose roles may get other keys."""

    def rotate(self, role: str, old: Iterable[Signer] = ()) -> None:
        """Let the keys that are declared now sign a role, and no others. `old` are signers of the keys that go.

        First what the role signs is signed by old and new keys, then the list of keys changes: at each moment devices
        find signatures that they know.
        """
        published, going = self.read(), list(old)
        if role in ("bundles", "assign"):
            # Also of groups that were removed: the old key may assign nothing, to nobody.
            names = [name for name in published.delegated if _kind(name) == role]
            for name in names:
                paths = ["bundles/*"] if role == "bundles" else [f"groups/{name.removeprefix('assign-')}/*"]
                self._delegate(published.targets.signed, name, paths, role)
            self._publish(published, ("targets", *names))
            return
        authorised = published.root.signed.roles[role]
        own = self.keys.signers(role)
        known = [each for each in distinct([*own, *going]) if each.public_key.keyid in authorised.keyids]
        names = ["targets"] if role == "targets" else []
        # Without enough of the keys that go, which may be lost, devices wait until the role is signed anew, below.
        crossed = role != "root" and len(known) >= authorised.threshold
        if crossed:
            self._publish(published, names, also={role: [*known, *own]})
            published = self.read()
        root = published.root
        old_root = deepcopy(root.signed)
        self._authorise(root.signed, role)
        root.signed.version += 1
        root.signed.expires = self._expires("root")
        root.signatures.clear()
        for signer in distinct([*self.keys.signers("root"), *going]):
            if signer.public_key.keyid in {*old_root.roles["root"].keyids, *root.signed.roles["root"].keyids}:
                root.sign(signer, append=True)
        for delegator, whose in ((old_root, "the present"), (root.signed, "the new")):
            if not is_signed(delegator, "root", root):
                raise CannotPublish(
                    f"root has to be signed by {delegator.roles['root'].threshold} of {whose} root keys: name those "
                    "that go with --old ADDRESS"
                )
        self._write(f"metadata/{root.signed.version}.root.json", root)
        if role != "root" and not crossed:
            self._publish(self.read(), names)
