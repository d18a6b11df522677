"""Other keys for a role: devices follow by themselves, and at each moment find signatures that they know."""

from collections.abc import Iterable
from copy import deepcopy

from securesystemslib.signer import Signer

from visionops_assets.delivery.tuf_files import CannotPublish, TufFiles, distinct, is_signed


class KeyChanges(TufFiles):
    """Signed metadata whose roles may get other keys."""

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
        for judge, whose in ((old_root, "the present"), (root.signed, "the new")):
            if not is_signed(judge, "root", root):
                raise CannotPublish(
                    f"root has to be signed by {judge.roles['root'].threshold} of {whose} root keys: name those "
                    "that go with --old ADDRESS"
                )
        self._write(f"metadata/{root.signed.version}.root.json", root)
        if role != "root" and not crossed:
            self._publish(self.read(), names)
