"""Who signs what: the keys of each role, by address.

`VISIONOPS_EDGE_KEYS` names a YAML file; without it one key a role is made once, in `edge/keys` of this home, readable
by its owner alone. Each role is a list of keys, or a threshold and a list:

    root: {threshold: 2, keys: [{public: alice.pem}, {public: bob.pem}, "file2:carol.pem"]}
    timestamp: ["awskms:alias/visionops-timestamp"]

A key is an address that securesystemslib opens, or only its public half (`public`, PEM), where somebody else holds it.
A token's PIN (`hsm:2?label=Name`) is `VISIONOPS_EDGE_PIN`, or typed.
"""

import functools
import getpass
import os
import stat
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import (
    SIGNER_FOR_URI_SCHEME,
    CryptoSigner,
    Key,
    SecretsHandler,
    Signature,
    Signer,
    SSlibKey,
)

from edge.files import NoSuchUser, System, named_path
from resources import home
from resources.error_family import Invalid
from resources.settings import Devices
from visionops_assets.config.section import NotYAML, parse_yaml

VARIABLE = "VISIONOPS_EDGE_KEYS"
PIN = "VISIONOPS_EDGE_PIN"
ROLES = ("root", "targets", "bundles", "assign", "snapshot", "timestamp")
WHAT = {
    "root": "the keys of all other roles",
    "targets": "which keys may sign bundles and assignments",
    "bundles": "what may run on devices: the approvers' role",
    "assign": "which group runs what",
    "snapshot": "which files belong together",
    "timestamp": "what is newest",
}
# What a scheme's library comes with, and how its addresses read.
_EXTRAS = {"awskms": "awskms", "azurekms": "azurekms", "gcpkms": "gcpkms", "hsm": "hsm", "hv": "vault"}
_SHAPES = {
    "awskms": "awskms:KEY or awskms:alias/NAME",
    "azurekms": "azurekms://VAULT.vault.azure.net/keys/NAME[/VERSION]",
    "gcpkms": "gcpkms:projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/V",
    "hsm": "hsm:NUMBER?label=TOKEN",
    "hv": "hv:NAME[/VERSION]",
}
_FILE = f"{CryptoSigner.SCHEME}:"
_DISK = System()


class KeyProblem(Invalid):
    """A key cannot be used. Names it, and the fix."""


@dataclass(frozen=True)
class HeldKey:
    """One key of a role: its public half, and its address where this machine may sign with it."""

    public: Key
    address: str | None

    def signer(self) -> Signer:
        """What signs with it. Raises `KeyProblem`."""
        if self.address is None:
            raise KeyProblem(
                f"key {self.public.keyid[:12]} is held by somebody else: they sign with their own"
            )
        try:
            opened = Signer.from_priv_key_uri(self.address, self.public, _secret)
        except Exception as error:  # Each scheme raises its own.
            raise KeyProblem(f"{self.address} cannot sign: {_why(self.address, error)}") from error
        return _NamedSigner(self.address, opened)


class _NamedSigner(Signer):
    """A signer whose errors name its address."""

    def __init__(self, address: str, opened: Signer) -> None:
        self._address, self._opened = address, opened

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> "_NamedSigner":
        return cls(priv_key_uri, Signer.from_priv_key_uri(priv_key_uri, public_key, secrets_handler))

    @property
    def public_key(self) -> Key:
        return self._opened.public_key

    def sign(self, payload: bytes) -> Signature:
        try:
            return self._opened.sign(payload)
        except Exception as error:  # Each scheme raises its own.
            raise KeyProblem(f"{self._address} does not sign: {_why(self._address, error)}") from error


@functools.cache
def _secret(what: str) -> str:
    """The PIN of a token that signs: a setting, or typed once. Raises `KeyProblem`."""
    known = Devices.read().pin
    if known is not None:
        return known.get_secret_value()
    if not sys.stdin.isatty():
        raise KeyProblem(
            f"its {what} is asked for: {PIN}_FILE names a file with it, or run this at a terminal"
        )
    return getpass.getpass(f"{what} of the token that signs: ")


def _why(address: str, error: Exception) -> str:
    """What a scheme's library said, in one line, or how to get it."""
    scheme = address.partition(":")[0]
    if isinstance(error, UnsupportedLibraryError) and scheme in _EXTRAS:
        return f"its library is not installed: pip install 'securesystemslib[{_EXTRAS[scheme]}]'"
    return " ".join(str(error).split()) or type(error).__name__


@dataclass(frozen=True)
class RoleKeys:
    """The keys of one role, and how many of them have to sign."""

    keys: tuple[HeldKey, ...]
    threshold: int = 1


@dataclass(frozen=True)
class Keys:
    """The keys of every role. `embedded` is the folder of keys that were made here."""

    roles: Mapping[str, RoleKeys]
    embedded: Path | None = None

    def signers(self, role: str) -> list[Signer]:
        """Those that this machine may sign a role with. Raises `KeyProblem`."""
        return [key.signer() for key in self.roles[role].keys if key.address is not None]

    def describe(self, role: str) -> str:
        """In words: how many of how many keys, and where they lie."""
        found = self.roles[role]
        places = ", ".join(
            f"{key.public.keyid[:12]} ({key.address or 'held by somebody else'})" for key in found.keys
        )
        return f"{found.threshold} of {len(found.keys)}: {places}"


def keys_folder() -> Path:
    """Where embedded keys lie."""
    return home.home() / "edge" / "keys"


def load_keys(project: str = "PROJECT") -> Keys:
    """The keys of the environment, wanted for a project. Raises `KeyProblem`, also where there are none yet."""
    named = Devices.read().keys
    if named:
        return declared_keys(_path(named))
    return embedded_keys(keys_folder(), project)


def _path(named: str) -> Path:
    try:
        return named_path(named)
    except NoSuchUser as error:
        raise KeyProblem(f"the keys are looked for in {error}") from None


def make_keys(folder: Path) -> bool:
    """Make a key a role in a folder, once; True if it made them. Who is killed leaves none."""
    if folder.is_dir():
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    partial.mkdir(mode=0o700)
    for role in ROLES:
        write_key(partial / f"{role}.pem")
    _DISK.sync_folder(partial)
    try:
        # A folder does not take the place of one that has files: of two processes the first one's are used.
        partial.rename(folder)
    except OSError:
        for file in partial.iterdir():
            file.unlink()
        partial.rmdir()
        return False
    _DISK.sync_folder(folder.parent)
    return True


def write_key(file: Path) -> None:
    """Make one private key, readable by its owner alone. Raises FileExistsError rather than replace one."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(CryptoSigner.generate_ed25519().private_bytes)
        stream.flush()
        os.fsync(stream.fileno())


def begin_rotation(folder: Path, role: str) -> None:
    """Make the key that a role is to have next; one that a killed rotation made is used."""
    if not (folder / f"{role}.next.pem").exists():
        write_key(folder / f"{role}.next.pem")
        _DISK.sync_folder(folder)


def rotating(folder: Path, role: str) -> tuple[Keys, list[Signer]]:
    """The keys as they are to be, and the signers of those that go."""
    keys = embedded_keys(folder)
    coming = tuple(key for key in keys.roles[role].keys if str(key.address).endswith(f"{role}.next.pem"))
    going = [key.signer() for key in keys.roles[role].keys if key not in coming]
    return Keys({**keys.roles, role: RoleKeys(coming)}, folder), going


def end_rotation(folder: Path, role: str) -> None:
    """The next key takes the place of the present one, which is removed: no device takes it any more."""
    (folder / f"{role}.next.pem").replace(folder / f"{role}.pem")
    _DISK.sync_folder(folder)


def embedded_keys(folder: Path, project: str = "PROJECT") -> Keys:
    """The keys that were made here. While a role gets another one, both sign.

    Raises `KeyProblem`, which names the command that makes them and the repository of `project`.
    """
    if not folder.is_dir():
        raise KeyProblem(
            f"there are no keys yet: `visionops fleet keys init {project}` makes them in {folder}, or {VARIABLE} names "
            "a file"
        )
    roles = {}
    for role in ROLES:
        files = [file for file in (folder / f"{role}.pem", folder / f"{role}.next.pem") if file.is_file()]
        if not files:
            raise KeyProblem(
                f"{folder / f'{role}.pem'} is not there: restore it from its copy, or `visionops fleet keys rotate "
                f"{role}` makes another one and tells every device"
                + (
                    ", which takes root's key: without it devices have to be provisioned anew"
                    if role == "root"
                    else ""
                )
            )
        keys = tuple(_of_address(f"{_FILE}{file}", folder, None, readable=False) for file in files)
        roles[role] = RoleKeys(keys)
    return Keys(roles, folder)


def declared_keys(file: Path) -> Keys:
    """The keys of a YAML file. Raises `KeyProblem`."""
    try:
        content = parse_yaml(file.read_text())
    except (OSError, NotYAML, UnicodeDecodeError) as error:
        raise KeyProblem(f"{VARIABLE} names {file}, which cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise KeyProblem(f"{file}: expected a list of keys for each of {', '.join(ROLES)}")
    readable = bool(content.pop("readable_by_others", False))
    unknown = sorted(set(content) - set(ROLES))
    missing = [role for role in ROLES if not content.get(role)]
    if unknown or missing:
        said = f"{unknown[0]} is no role" if unknown else f"no key for {missing[0]}"
        raise KeyProblem(f"{file}: {said}; the roles are {', '.join(ROLES)}")
    return Keys({role: _role(role, content[role], file, readable) for role in ROLES})


def key_at(address: str) -> HeldKey:
    """The key at one address, for a person who signs with their own. Raises `KeyProblem`."""
    return _of_address(address, Path.cwd(), None, readable=False)


def _role(role: str, content: Any, file: Path, readable: bool) -> RoleKeys:
    listed = content.get("keys") if isinstance(content, dict) else content
    threshold = content.get("threshold", 1) if isinstance(content, dict) else 1
    if not isinstance(listed, Sequence) or isinstance(listed, str) or not listed:
        raise KeyProblem(f"{file}: {role}: expected a list of keys")
    keys = []
    for each in listed:
        entry = {"address": each} if isinstance(each, str) else each
        if not isinstance(entry, dict) or not set(entry) <= {"address", "public"} or not entry:
            raise KeyProblem(
                f"{file}: {role}: a key is an address, or has `address` and `public`; not {each!r}"
            )
        public = _public(file.parent / entry["public"]) if "public" in entry else None
        if "address" in entry:
            keys.append(_of_address(str(entry["address"]), file.parent, public, readable=readable))
        else:
            assert public is not None
            keys.append(HeldKey(public, None))
    distinct = len({key.public.keyid for key in keys})
    if not isinstance(threshold, int) or not 1 <= threshold <= distinct:
        raise KeyProblem(f"{file}: {role}: threshold {threshold} of {distinct} different keys cannot be met")
    return RoleKeys(tuple(keys), threshold)


def _of_address(address: str, folder: Path, public: Key | None, *, readable: bool) -> HeldKey:
    scheme, _, rest = address.partition(":")
    if scheme not in SIGNER_FOR_URI_SCHEME:
        raise KeyProblem(
            f"{address} is no address of a key: {', '.join(sorted(SIGNER_FOR_URI_SCHEME))} are known"
        )
    if not address.startswith(_FILE):
        return HeldKey(public, address) if public is not None else _imported(scheme, rest, address)
    # As securesystemslib would read it, but from the folder of the file that names it.
    path = folder / _path(rest)
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        private = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        said = (
            error.strerror
            if isinstance(error, OSError)
            else "it is no PEM file of a private key without password"
        )
        raise KeyProblem(f"the key {path} cannot be read: {said}") from error
    if mode & 0o077 and not readable:
        raise KeyProblem(
            f"the key {path} can be read by others ({mode:04o}): `chmod 600 {path}`, or, where it is a mounted secret, "
            f"`readable_by_others: true` in the file that {VARIABLE} names"
        )
    found = SSlibKey.from_crypto(private.public_key())
    if public is not None and public.keyid != found.keyid:
        raise KeyProblem(f"the key {path} does not belong to its `public`")
    return HeldKey(found, f"{_FILE}{path.absolute()}")


def _imported(scheme: str, rest: str, address: str) -> HeldKey:
    """A key in a service, which tells its public half; Azure and Vault tell that of the newest version."""
    asked = _asked(scheme, rest, address)
    try:
        found, public = SIGNER_FOR_URI_SCHEME[scheme].import_(*asked)  # type: ignore[attr-defined]
    except UnsupportedLibraryError as error:
        raise KeyProblem(f"the public key of {address} cannot be had: {_why(address, error)}") from error
    except Exception as error:  # Each service raises its own.
        raise KeyProblem(
            f"the public key of {address} cannot be had ({_why(address, error)}): name its PEM file as `public`"
        ) from error
    if scheme not in ("azurekms", "hv"):
        return HeldKey(public, address)
    if found != address and not found.startswith(f"{address.rstrip('/')}/"):
        raise KeyProblem(
            f"the service tells the public key of {found} alone: name the PEM file of {address} as `public`"
        )
    return HeldKey(public, found)


def _asked(scheme: str, rest: str, address: str) -> tuple[Any, ...]:
    """What a service is asked for by an address; a token by the number of its key, its label, and who tells its PIN.

    Raises `KeyProblem`.
    """
    try:
        if scheme == "hsm":
            number, _, query = rest.partition("?")
            return (int(number) if number else None, dict(parse_qsl(query)).get("label"), _secret)
        if scheme == "azurekms":
            parts = urlsplit(address)
            _, keys, name, *_ = parts.path.split("/")
            if keys != "keys" or not parts.netloc or not name:
                raise ValueError
            return (parts.netloc.partition(".")[0], name)
        name = rest.partition("/")[0] if scheme == "hv" else rest
        if not name:
            raise ValueError
        return (name,)
    except ValueError as error:
        raise KeyProblem(
            f"the public key of {address} cannot be had: it reads {_SHAPES.get(scheme, scheme)}"
        ) from error


def _public(file: Path) -> Key:
    try:
        return SSlibKey.from_crypto(load_pem_public_key(file.read_bytes()))
    except (OSError, ValueError) as error:
        raise KeyProblem(f"{file} cannot be read as the PEM file of a public key: {error}") from error
