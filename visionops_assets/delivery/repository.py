"""One project's TUF repository: static files in a folder or a bucket, of which only `timestamp.json` ever changes.

    blobs/<sha256>                                   models and golden answers, for ever
    metadata/<n>.<role>.json                         root, targets, bundles, assign-<group>, snapshot
    metadata/timestamp.json                          written last: what it leads to is what is published
    targets/bundles/<hash>.<bundle>.json             manifests
    targets/groups/<group>/<hash>.assignment.json    who runs what
    staged/…                                         what waits for approvers

A publisher reads what `timestamp.json` leads to, never what else lies there: what a killed one left is overwritten.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from securesystemslib.signer import Key, Signer
from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

from edge.formats import FormatError, canonical, manifest_of
from resources.artifact_store import ArtifactNotFound, ArtifactStore
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
# Manifests that stay listed beside those that a group runs.
KEPT_BUNDLES = 50
S = TypeVar("S", Snapshot, Timestamp, Targets)
_SERIALIZER = JSONSerializer(compact=True)


class NotPublished(LookupError):
    """The project has no repository yet, or not this group or bundle."""


class CannotPublish(ValueError):
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
        """The device groups, by name."""
        return sorted(name.removeprefix("assign-") for name in self.delegated if name.startswith("assign-"))

    def expiries(self) -> dict[str, datetime]:
        """When each role's metadata ends."""
        found: dict[str, Metadata[Any]] = {
            "root": self.root,
            "targets": self.targets,
            **self.delegated,
        }
        return {
            **{name: each.signed.expires for name, each in found.items()},
            "snapshot": self.snapshot.signed.expires,
            "timestamp": self.timestamp.signed.expires,
        }


class Repository:
    """A project's repository in a store. Its caller holds the project's lock while it changes anything."""

    def __init__(
        self,
        store: ArtifactStore,
        project: str,
        keys: Keys,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.project, self.keys = project, keys
        self._store, self._now = store, now

    def create(self) -> bool:
        """Publish an empty repository; True if there was none."""
        if self._store.exists(self._key(TIMESTAMP)):
            return False
        root = Root(version=1, expires=self._expires("root"), consistent_snapshot=True)
        for role in ("root", "targets", "snapshot", "timestamp"):
            self._authorise(root, role)
        targets = Targets(version=1, expires=self._expires("targets"))
        targets.delegations = Delegations(keys={}, roles={})
        self._delegate(targets, "bundles", ["bundles/*"], "bundles")
        published = Published(
            Metadata(root),
            Metadata(targets),
            Metadata(_unborn(Snapshot(expires=self._expires("snapshot")))),
            Metadata(_unborn(Timestamp(expires=self._expires("timestamp")))),
            {"bundles": Metadata(Targets(version=1, expires=self._expires("bundles")))},
        )
        self._sign(published.root, self.keys.signers("root"), published.root.signed, "root")
        self._sign(published.targets, self.keys.signers("targets"), root, "targets")
        self._sign(published.delegated["bundles"], self.keys.signers("bundles"), targets, "bundles")
        self._write("metadata/1.root.json", published.root)
        self._write("metadata/1.targets.json", published.targets)
        self._write("metadata/1.bundles.json", published.delegated["bundles"])
        self._commit(published)
        return True

    def read(self) -> Published:
        """What is published. Raises `NotPublished`."""
        try:
            timestamp = Metadata[Timestamp].from_bytes(self._store.read(self._key(TIMESTAMP)))
        except ArtifactNotFound as error:
            raise NotPublished(
                f"{self.project} has no repository yet: `visionops fleet keys init {self.project}` makes it"
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

    def add_group(self, group: str) -> bool:
        """Let a group be assigned something; True if it could not before. Takes the keys of targets."""
        published = self.read()
        if group in published.groups:
            return False
        name = f"assign-{group}"
        self._delegate(published.targets.signed, name, [f"groups/{group}/*"], "assign")
        published.delegated[name] = Metadata(_unborn(Targets(expires=self._expires("assign"))))
        self._publish(published, ("targets", name))
        return True

    def assignment(self, group: str) -> dict[str, Any] | None:
        """What is assigned to a group, None if nothing is yet. Raises `NotPublished` for an unknown group."""
        published = self.read()
        role = published.delegated.get(f"assign-{group}")
        if role is None:
            there = ", ".join(published.groups) or "none"
            raise NotPublished(f"{self.project} has no device group {group}; there are {there}")
        path = f"groups/{group}/assignment.json"
        info = role.signed.targets.get(path)
        if info is None:
            return None
        content = self._store.read(self._key(_target_file(path, info)))
        return dict(json.loads(content))

    def bundles(self) -> dict[str, dict[str, Any]]:
        """The manifests that approvers signed, by identity, oldest release first."""
        found = {}
        for path, info in self.read().delegated["bundles"].signed.targets.items():
            data = self._store.read(self._key(_target_file(path, info)))
            found[path.removeprefix("bundles/").removesuffix(".json")] = dict(json.loads(data))
        return dict(sorted(found.items(), key=lambda each: int(each[1]["release"])))

    def next_release(self) -> int:
        """The count of the next bundle."""
        listed = [int(each["release"]) for each in self.bundles().values()]
        return (
            max([*listed, *(int(each["release"]) for each in filter(None, [self._waiting()]))], default=0) + 1
        )

    def add_bundle(self, manifest: Mapping[str, Any], blobs: Mapping[str, bytes]) -> bool:
        """Store a bundle's files and sign its manifest; False where it waits for approvers. `blobs` is by file name.

        Raises `CannotPublish` where another one waits.
        """
        data = canonical(manifest)
        bundle = manifest_of(data)
        if bundle.id in self.bundles():
            return True
        waiting = self._waiting()
        if waiting is not None and hashlib.sha256(canonical(waiting)).hexdigest() != bundle.id:
            raise CannotPublish(
                f"release {waiting['release']} waits for approvers: `visionops rollout sign {self.project} "
                f"--key ADDRESS`, or `visionops rollout sign {self.project} --withdraw`"
            )
        for name, sha256, size in bundle.files:
            content = blobs[name]
            if (hashlib.sha256(content).hexdigest(), len(content)) != (sha256, size):
                raise CannotPublish(f"{name} is not what the manifest says")
            self._store.write_once(self._key(f"blobs/{sha256}"), content)
        path = f"bundles/{bundle.id}.json"
        info = TargetFile.from_data(path, data, ["sha256"])
        self._store.write(self._key(_target_file(path, info)), data)
        published = self.read()
        role = published.delegated["bundles"]
        self._list(published, info)
        role.signed.version += 1
        role.signed.expires = self._expires("bundles")
        role.signatures.clear()
        for signer in self.keys.signers("bundles"):
            role.sign(signer, append=True)
        self._store.write(self._key("staged/manifest.json"), data)
        self._write("staged/bundles.json", role)
        return self.complete_bundle()

    def waiting(self) -> tuple[dict[str, Any], str] | None:
        """The manifest that waits for approvers, and how many have signed in words; None where none does."""
        manifest = self._waiting()
        if manifest is None:
            return None
        return manifest, self._signed_by(self.read(), self._staged())

    def sign_bundle(self, signer: Signer) -> str:
        """Add an approver's signature to the bundle that waits; `CannotPublish` where its files are not whole."""
        manifest = self._waiting()
        if manifest is None:
            raise NotPublished(f"no release of {self.project} waits for approvers")
        published = self.read()
        allowed = _role_keys(published.targets.signed, "bundles")
        if signer.public_key.keyid not in allowed:
            raise CannotPublish(
                f"key {signer.public_key.keyid[:12]} is none of the approvers' of {self.project}: "
                f"{', '.join(each[:12] for each in sorted(allowed))}"
            )
        for name, each in manifest["files"].items():
            content = self._store.read(self._key(f"blobs/{each['sha256']}"))
            if hashlib.sha256(content).hexdigest() != each["sha256"]:
                raise CannotPublish(
                    f"{name} in the repository is not what the manifest says: nothing was signed"
                )
        staged = self._staged()
        staged.sign(signer, append=True)
        self._write("staged/bundles.json", staged)
        return self._signed_by(published, staged)

    def complete_bundle(self) -> bool:
        """Publish the bundle that waits, if enough approvers signed it. True if none waits any more."""
        manifest = self._waiting()
        if manifest is None:
            return True
        published, staged = self.read(), self._staged()
        bundle = hashlib.sha256(canonical(manifest)).hexdigest()
        if f"bundles/{bundle}.json" in published.delegated["bundles"].signed.targets:
            self._unstage()
            return True
        if staged.signed.version != published.delegated["bundles"].signed.version + 1:
            raise CannotPublish(
                f"release {manifest['release']} of {self.project} was staged for an older list of bundles: "
                "publish it again"
            )
        if not _enough(published.targets.signed, "bundles", staged):
            return False
        published.delegated["bundles"] = staged
        self._write(f"metadata/{staged.signed.version}.bundles.json", staged)
        self._commit(published)
        self._unstage()
        return True

    def withdraw(self) -> None:
        """Let the bundle that waits for approvers go."""
        self._unstage()

    def assign(self, group: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """Publish what a group runs, as its next serial. Raises `NotPublished` and `CannotPublish`."""
        before = self.assignment(group)
        listed = self.bundles()
        for name in ("base", "candidate"):
            named = content.get(name)
            if named is not None and named["bundle"] not in listed:
                raise CannotPublish(
                    f"bundle {named['bundle'][:12]} is not signed by the approvers of {self.project}"
                )
        if int(content.get("floor", 0)) > int(content["base"]["release"]):
            raise CannotPublish("the floor of an assignment is at most the release of its base")
        told = {
            **content,
            "format": 1,
            "project": self.project,
            "group": group,
            "serial": int(before["serial"]) + 1 if before is not None else 1,
            "issued_at": f"{self._now():%Y-%m-%dT%H:%M:%SZ}",
        }
        data = canonical(told)
        path = f"groups/{group}/assignment.json"
        info = TargetFile.from_data(path, data, ["sha256"])
        self._store.write(self._key(_target_file(path, info)), data)
        published = self.read()
        name = f"assign-{group}"
        published.delegated[name].signed.targets = {path: info}
        self._publish(published, (name,))
        return told

    def refresh(self, least: float = 0.5) -> list[str]:
        """Sign anew what this machine has keys for and has less than this share of its life left; returns which."""
        published, now = self.read(), self._now()
        aged = [
            name
            for name, expires in published.expiries().items()
            if expires - now < LIVES[_kind(name)] * least
        ]
        renewed = [name for name in aged if self._can_sign(published, name)]
        if renewed:
            self._publish(
                published, [name for name in renewed if name not in ("root", "snapshot", "timestamp")]
            )
        return renewed

    def export(self, to: ArtifactStore) -> int:
        """Copy all that devices fetch, `timestamp.json` last; returns how many files were new there."""
        published = self.read()
        names = [f"metadata/{number}.root.json" for number in range(1, self._newest_root() + 1)]
        names += [f"metadata/{published.snapshot.signed.version}.snapshot.json"]
        for name, role in {"targets": published.targets, **published.delegated}.items():
            names.append(f"metadata/{role.signed.version}.{name}.json")
            names += [_target_file(path, info) for path, info in role.signed.targets.items()]
        for manifest in self.bundles().values():
            names += [f"blobs/{each['sha256']}" for each in manifest["files"].values()]
        written = 0
        for name in names:
            if not to.exists(self._key(name)):
                to.write(self._key(name), self._store.read(self._key(name)))
                written += 1
        content = self._store.read(self._key(TIMESTAMP))
        if not to.exists(self._key(TIMESTAMP)) or to.read(self._key(TIMESTAMP)) != content:
            to.write(self._key(TIMESTAMP), content)
            written += 1
        return written

    def rotate(self, role: str, old: Iterable[Signer] = ()) -> None:
        """Let the keys that are declared now sign a role, and no others. `old` are signers of the keys that go.

        First what the role signs is signed by old and new keys, then the list of keys changes: at each moment devices
        find signatures that they know.
        """
        published, going = self.read(), list(old)
        if role in ("bundles", "assign"):
            names = ["bundles"] if role == "bundles" else [f"assign-{group}" for group in published.groups]
            for name in names:
                paths = ["bundles/*"] if role == "bundles" else [f"groups/{name.removeprefix('assign-')}/*"]
                self._delegate(published.targets.signed, name, paths, role)
            self._publish(published, ("targets", *names))
            return
        authorised = published.root.signed.roles[role]
        own = self.keys.signers(role)
        known = [each for each in _distinct([*own, *going]) if each.public_key.keyid in authorised.keyids]
        names = ("targets",) if role == "targets" else ()
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
        for signer in _distinct([*self.keys.signers("root"), *going]):
            if signer.public_key.keyid in {*old_root.roles["root"].keyids, *root.signed.roles["root"].keyids}:
                root.sign(signer, append=True)
        for judge, whose in ((old_root, "the present"), (root.signed, "the new")):
            if not _enough(judge, "root", root):
                raise CannotPublish(
                    f"root has to be signed by {judge.roles['root'].threshold} of {whose} root keys: name those "
                    "that go with --old ADDRESS"
                )
        self._write(f"metadata/{root.signed.version}.root.json", root)
        if role != "root" and not crossed:
            self._publish(self.read(), names)

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
            judge = published.root.signed if name == "targets" else targets
            self._sign(each, (also or {}).get(kind) or self.keys.signers(kind), judge, name)
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

    def _sign(self, each: Metadata[Any], signers: list[Signer], judge: Root | Targets, name: str) -> None:
        for signer in _distinct(signers):
            each.sign(signer, append=True)
        if not _enough(judge, name, each):
            wanted = ", ".join(key[:12] for key in sorted(_role_keys(judge, name)))
            kind = _kind(name)
            raise CannotPublish(
                f"{name} of {self.project} has to be signed by keys that are not here (of {wanted}): set "
                f"VISIONOPS_EDGE_KEYS, or `visionops fleet keys rotate {kind}` after a change of keys"
            )

    def _can_sign(self, published: Published, name: str) -> bool:
        if name in ("root", "snapshot", "timestamp"):
            return name != "root"
        judge = published.root.signed if name == "targets" else published.targets.signed
        here = {signer.public_key.keyid for signer in self.keys.signers(_kind(name))}
        threshold = (
            judge.roles[name].threshold if isinstance(judge, Root) else _delegated_role(judge, name).threshold
        )
        return len(here & _role_keys(judge, name)) >= threshold

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

    def _list(self, published: Published, info: TargetFile) -> None:
        """Add a manifest to the bundles, and leave out the oldest that no group runs or may go back to."""
        listed = published.delegated["bundles"].signed.targets
        listed[info.path] = info
        if len(listed) <= KEPT_BUNDLES:
            return
        manifests = self.bundles()
        needed = {bundle for group in published.groups for bundle in _named(self.assignment(group))}
        for bundle in manifests:
            if len(listed) > KEPT_BUNDLES and bundle not in needed:
                listed.pop(f"bundles/{bundle}.json", None)

    def _waiting(self) -> dict[str, Any] | None:
        try:
            found = manifest_of(self._store.read(self._key("staged/manifest.json")))
            self._store.read(self._key("staged/bundles.json"))
        except (ArtifactNotFound, FormatError):
            return None
        return dict(found.content)

    def _staged(self) -> Metadata[Targets]:
        return Metadata[Targets].from_bytes(self._store.read(self._key("staged/bundles.json")))

    def _unstage(self) -> None:
        for name in ("staged/bundles.json", "staged/manifest.json"):
            self._store.path(self._key(name)).unlink(missing_ok=True)

    def _signed_by(self, published: Published, staged: Metadata[Targets]) -> str:
        role = _delegated_role(published.targets.signed, "bundles")
        found = published.targets.signed.get_verification_result(
            "bundles", staged.signed_bytes, staged.signatures
        )
        return f"signed by {len(found.signed)} of {role.threshold} approvers"

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


def _unborn(signed: S) -> S:
    """Before its first version, which signing it makes."""
    signed.version = 0
    return signed


def _kind(name: str) -> str:
    return "assign" if name.startswith("assign-") else name


def _named(assignment: Mapping[str, Any] | None) -> set[str]:
    if assignment is None:
        return set()
    found = [assignment.get(name) for name in ("base", "candidate", "previous")]
    return {str(each["bundle"]) for each in found if each}


def _target_file(path: str, info: TargetFile) -> str:
    folder, _, name = path.rpartition("/")
    return f"targets/{folder}/{info.hashes['sha256']}.{name}"


def _delegated_role(targets: Targets, name: str) -> DelegatedRole:
    assert targets.delegations is not None and targets.delegations.roles is not None
    return targets.delegations.roles[name]


def _role_keys(judge: Root | Targets, name: str) -> set[str]:
    return set(judge.roles[name].keyids if isinstance(judge, Root) else _delegated_role(judge, name).keyids)


def _enough(judge: Root | Targets, name: str, each: Metadata[Any]) -> bool:
    try:
        judge.verify_delegate(name, each.signed_bytes, each.signatures)
    except (UnsignedMetadataError, RepositoryError, ValueError):
        return False
    return True


def _distinct(signers: Iterable[Signer]) -> list[Signer]:
    found: dict[str, Signer] = {}
    for signer in signers:
        found.setdefault(signer.public_key.keyid, signer)
    return list(found.values())


def keys_of(published: Published) -> dict[str, list[Key]]:
    """The keys that devices take for each role now."""
    root, targets = published.root.signed, published.targets.signed
    found = {name: [root.keys[each] for each in root.roles[name].keyids] for name in root.roles}
    delegations = targets.delegations
    assert delegations is not None and delegations.roles is not None
    for name, role in delegations.roles.items():
        found[name] = [delegations.keys[each] for each in role.keyids]
    return found
