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
from collections.abc import Mapping
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.metadata import Delegations, Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

from edge.formats import FormatError, canonical, manifest_of
from resources.storage import ArtifactNotFound, ArtifactStore
from visionops_assets.delivery.tuf_files import (
    LAST_SERIAL,
    REMOVED,
    TIMESTAMP,
    CannotPublish,
    KeyChanges,
    NotPublished,
    Published,
    delegated_role,
    is_signed,
    role_keys,
    target_file,
    unborn,
)

# Manifests that stay listed beside those that a group runs.
KEPT_BUNDLES = 50
# By group, its assignment and the manifest of the base that this names.
Running = dict[str, tuple[dict[str, Any], dict[str, Any]]]


class Repository(KeyChanges):
    """A project's repository: its groups and what they run, its bundles and who has to sign them."""

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
            Metadata(unborn(Snapshot(expires=self._expires("snapshot")))),
            Metadata(unborn(Timestamp(expires=self._expires("timestamp")))),
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

    def add_group(self, group: str) -> bool:
        """Let a group be assigned something; True if it could not before. Takes the keys of targets."""
        published = self.read()
        if group in published.groups:
            return False
        name = f"assign-{group}"
        self._delegate(published.targets.signed, name, [f"groups/{group}/*"], "assign")
        removed = published.delegated.get(name)
        if removed is not None:
            removed.signed.unrecognized_fields.pop(REMOVED, None)
        else:
            published.delegated[name] = Metadata(unborn(Targets(expires=self._expires("assign"))))
        self._publish(published, ("targets", name))
        return True

    def remove_group(self, group: str) -> bool:
        """Assign a group nothing any more and count it no more; True if it was there. `add_group` brings it back."""
        before = self.assignment(group) if group in self.read().groups else None
        published = self.read()
        if group not in published.groups:
            return False
        name = f"assign-{group}"
        role = published.delegated[name].signed
        role.targets = {}
        role.unrecognized_fields[REMOVED] = True
        if before is not None:
            # A device that comes back takes no lower one.
            role.unrecognized_fields[LAST_SERIAL] = int(before["serial"])
        self._publish(published, (name,))
        return True

    def assignment(self, group: str) -> dict[str, Any] | None:
        """What is assigned to a group, None if nothing is yet. Raises `NotPublished` for an unknown group."""
        published = self.read()
        role = published.delegated.get(f"assign-{group}")
        if role is None or group not in published.groups:
            there = ", ".join(published.groups) or "none"
            raise NotPublished(f"{self.project} has no device group {group}; there are {there}")
        path = f"groups/{group}/assignment.json"
        info = role.signed.targets.get(path)
        return self._target(path, info) if info is not None else None

    def running(self) -> Running:
        """The groups that are assigned something.

        Raises `NotPublished`, and `CannotPublish` where the repository is damaged.
        """
        published = self.read()
        listed = published.delegated["bundles"].signed.targets
        found = {}
        for group in published.groups:
            path = f"groups/{group}/assignment.json"
            info = published.delegated[f"assign-{group}"].signed.targets.get(path)
            if info is None:
                continue
            try:
                content = self._target(path, info)
                path = f"bundles/{content['base']['bundle']}.json"
                manifest = self._target(path, listed[path])
            except (ArtifactNotFound, KeyError, ValueError) as error:
                raise CannotPublish(
                    f"the repository of {self.project} is damaged: {path} of {group} cannot be read; restore it from a "
                    "copy"
                ) from error
            found[group] = content, manifest
        return found

    def bundles(self) -> dict[str, dict[str, Any]]:
        """The manifests that approvers signed, by identity, oldest release first."""
        found = {}
        for path, info in self.read().delegated["bundles"].signed.targets.items():
            found[path.removeprefix("bundles/").removesuffix(".json")] = self._target(path, info)
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
        if self._lists(self.read(), bundle.id):
            return True
        waiting = self._waiting()
        other = waiting is not None and hashlib.sha256(canonical(waiting)).hexdigest() != bundle.id
        if waiting is not None and other and not self.complete_bundle():
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
        self._store.write(self._key(target_file(path, info)), data)
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
        allowed = role_keys(published.targets.signed, "bundles")
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

    def lacking_signatures(self) -> tuple[dict[str, Any], str] | None:
        """The same of one that too few have signed: else whoever publishes next publishes it."""
        waiting = self.waiting()
        if waiting is None or is_signed(self.read().targets.signed, "bundles", self._staged()):
            return None
        return waiting

    def complete_bundle(self) -> bool:
        """Publish the bundle that waits, if enough approvers signed it. True if none waits any more."""
        manifest = self._waiting()
        if manifest is None:
            return True
        published, staged = self.read(), self._staged()
        if not is_signed(published.targets.signed, "bundles", staged):
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
        published = self.read()
        for name in ("base", "candidate"):
            named = content.get(name)
            if named is not None and not self._lists(published, named["bundle"]):
                raise CannotPublish(
                    f"bundle {named['bundle'][:12]} is not signed by the approvers of {self.project}"
                )
        if int(content.get("floor", 0)) > int(content["base"]["release"]):
            raise CannotPublish("the floor of an assignment is at most the release of its base")
        name = f"assign-{group}"
        last = before["serial"] if before is not None else self._last_serial(published, name)
        told = {
            **content,
            "format": 1,
            "project": self.project,
            "group": group,
            "serial": int(last) + 1,
            "issued_at": f"{self._now():%Y-%m-%dT%H:%M:%SZ}",
        }
        data = canonical(told)
        path = f"groups/{group}/assignment.json"
        info = TargetFile.from_data(path, data, ["sha256"])
        self._store.write(self._key(target_file(path, info)), data)
        published.delegated[name].signed.targets = {path: info}
        self._publish(published, (name,))
        return told

    @staticmethod
    def _last_serial(published: Published, name: str) -> int:
        return int(published.delegated[name].signed.unrecognized_fields.get(LAST_SERIAL, 0))

    def export(self, to: ArtifactStore) -> int:
        """Copy all that devices fetch, `timestamp.json` last; returns how many files were new there."""
        published = self.read()
        names = [f"metadata/{number}.root.json" for number in range(1, self._newest_root() + 1)]
        names += [f"metadata/{published.snapshot.signed.version}.snapshot.json"]
        for name, role in {"targets": published.targets, **published.delegated}.items():
            names.append(f"metadata/{role.signed.version}.{name}.json")
            names += [target_file(path, info) for path, info in role.signed.targets.items()]
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

    def _target(self, path: str, info: TargetFile) -> dict[str, Any]:
        return dict(json.loads(self._store.read(self._key(target_file(path, info)))))

    def _lists(self, published: Published, bundle: str) -> bool:
        """Whether approvers signed a bundle."""
        return f"bundles/{bundle}.json" in published.delegated["bundles"].signed.targets

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
        """The manifest that is staged, unless it is published, or was staged for a list that is gone."""
        try:
            found = manifest_of(self._store.read(self._key("staged/manifest.json")))
            staged = self._staged().signed
        except (ArtifactNotFound, FormatError):
            return None
        listed = self.read().delegated["bundles"].signed
        if staged.version != listed.version + 1 or f"bundles/{found.id}.json" not in staged.targets:
            return None
        return dict(found.content)

    def _staged(self) -> Metadata[Targets]:
        return Metadata[Targets].from_bytes(self._store.read(self._key("staged/bundles.json")))

    def _unstage(self) -> None:
        for name in ("staged/bundles.json", "staged/manifest.json"):
            self._store.path(self._key(name)).unlink(missing_ok=True)

    def _signed_by(self, published: Published, staged: Metadata[Targets]) -> str:
        role = delegated_role(published.targets.signed, "bundles")
        found = published.targets.signed.get_verification_result(
            "bundles", staged.signed_bytes, staged.signatures
        )
        return f"signed by {len(found.signed)} of {role.threshold} approvers"


def lock_name(project: str) -> str:
    """The lock of whoever changes a project's repository: not the project's own, which promotion holds, nor one that a
    project of another name could have."""
    return f"delivery-{hashlib.sha256(f'delivery/{project}'.encode()).hexdigest()[:16]}"


def _named(assignment: Mapping[str, Any] | None) -> set[str]:
    if assignment is None:
        return set()
    found = [assignment.get(name) for name in ("base", "candidate", "previous")]
    return {str(each["bundle"]) for each in found if each}
