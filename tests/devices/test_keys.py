"""Keys by address: files with care, a key service by a stand-in, and a repository in a bucket."""

import inspect
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, CryptoSigner, Key, Signature, Signer

from resources.storage import ArtifactStore
from tests import s3
from tests.devices.small_fleet import GROUP, PROJECT, Fleet, update
from visionops_assets.delivery import signers
from visionops_assets.delivery.repository import Repository
from visionops_assets.delivery.signers import KeyProblem


class Service(Signer):
    """A key service: it tells the public half, and signs; nobody sees the other one."""

    held = CryptoSigner.generate_ecdsa()

    def __init__(self, public: Key) -> None:
        self._public = public

    @classmethod
    def import_(cls, name: str) -> tuple[str, Key]:
        if name != "visionops":
            raise PermissionError(f"no key {name}")
        return f"service:{name}", cls.held.public_key

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Key, secrets_handler: Any = None) -> "Service":
        return cls(public_key)

    @property
    def public_key(self) -> Key:
        return self._public

    def sign(self, payload: bytes) -> Signature:
        return self.held.sign(payload)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(SIGNER_FOR_URI_SCHEME, "service", Service)
    yield


def declared(folder: Path, **roles: Any) -> Path:
    """A file of keys: one file a role, but for those that are given."""
    own: dict[str, Any] = {}
    for role in signers.ROLES:
        if not (folder / f"{role}.pem").exists():
            signers.write_key(folder / f"{role}.pem")
        own[role] = [f"file2:{role}.pem"]
    (folder / "keys.yaml").write_text(yaml.safe_dump({**own, **roles}))
    return folder / "keys.yaml"


def test_online_roles_at_a_key_service(tmp_path: Path, service: None) -> None:
    fleet = Fleet(tmp_path / "fleet")
    online = {role: ["service:visionops"] for role in ("assign", "snapshot", "timestamp")}
    keys = signers.declared_keys(declared(tmp_path, **online))
    store = ArtifactStore(root=str(tmp_path / "repository"))
    fleet.store, fleet.keys = store, keys
    fleet.repository = Repository(store, PROJECT, keys, fleet.clock)
    fleet.repository.create()
    fleet.repository.add_group(GROUP)
    fleet.publish(fleet.bundle(1))
    device = fleet.device(url=(tmp_path / "repository" / PROJECT).as_uri())
    assert update(device.start())["model"]["release"] == 1


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a key in a token: SoftHSM behind PKCS#11, as a YubiHSM or a network HSM is."""
    pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed: pip install python-pkcs11")
    program = shutil.which("softhsm2-util")
    found = [
        Path(each)
        for each in (os.environ.get("PYKCS11LIB", ""), "/usr/lib/softhsm/libsofthsm2.so")
        if each and Path(each).is_file()
    ]
    if not found or program is None:
        pytest.skip("SoftHSM is not installed: apt install softhsm2, or PYKCS11LIB names libsofthsm2.so")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path / 'tokens'}\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    monkeypatch.setenv("PYKCS11LIB", str(found[0]))
    made = [
        "--module",
        str(found[0]),
        "--init-token",
        "--free",
        "--label",
        "Approver 1",
        "--so-pin",
        "0000",
        "--pin",
        "1234",
    ]
    subprocess.run([program, *made], check=True, capture_output=True)
    script = (
        "import pkcs11, pkcs11.util.ec as ec; from pkcs11 import Attribute, KeyType\n"
        f"token = pkcs11.lib({str(found[0])!r}).get_token(token_label='Approver 1')\n"
        "with token.open(rw=True, user_pin='1234') as opened:\n"
        "    curve = {Attribute.EC_PARAMS: ec.encode_named_curve_parameters('secp256r1')}\n"
        "    named = opened.create_domain_parameters(KeyType.EC, curve, local=True)\n"
        "    named.generate_keypair(id=bytes([2]), store=True, label='bundles')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    signers._secret.cache_clear()
    return "hsm:2?label=Approver+1"


def test_an_approvers_key_in_a_token(token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(signers.PIN, "1234")
    fleet = Fleet(tmp_path / "fleet")
    fleet.keys = signers.declared_keys(declared(tmp_path, bundles=[token]))
    fleet.store = ArtifactStore(root=str(tmp_path / "repository"))
    fleet.repository = Repository(fleet.store, PROJECT, fleet.keys, fleet.clock)
    fleet.repository.create()
    fleet.repository.add_group(GROUP)
    fleet.publish(fleet.bundle(1))
    device = fleet.device(url=(tmp_path / "repository" / PROJECT).as_uri())
    assert update(device.start())["model"]["release"] == 1
    signers._secret.cache_clear()
    monkeypatch.setenv(signers.PIN, "4321")
    with pytest.raises(Exception, match=r"hsm:2\?label=Approver\+1 does not sign: PinIncorrect") as raised:
        fleet.repository.add_bundle(fleet.bundle(2).manifest, fleet.bundle(2).blobs)
    assert "4321" not in str(raised.value)


def test_a_pin_is_asked_for_and_never_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    signers._secret.cache_clear()
    monkeypatch.delenv(signers.PIN, raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO("1234\n"))
    with pytest.raises(KeyProblem, match="its pin is asked for: VISIONOPS_EDGE_PIN_FILE names a file"):
        signers._secret("pin")
    monkeypatch.setenv(signers.PIN, "1234")
    assert signers._secret("pin") == "1234"
    signers._secret.cache_clear()


ADDRESSES = {
    # As it is written, as it signs, and what its signer is made with.
    "awskms:alias/visionops": ("awskms:alias/visionops", "alias/visionops"),
    "gcpkms:projects/p/cryptoKeyVersions/3": (
        "gcpkms:projects/p/cryptoKeyVersions/3",
        "projects/p/cryptoKeyVersions/3",
    ),
    "azurekms://v.vault.azure.net/keys/k": (
        "azurekms://v.vault.azure.net/keys/k/9f",
        "https://v.vault.azure.net/keys/k/9f",
    ),
    "azurekms://v.vault.azure.net/keys/k/9f": (
        "azurekms://v.vault.azure.net/keys/k/9f",
        "https://v.vault.azure.net/keys/k/9f",
    ),
    "hv:visionops": ("hv:visionops/4", "visionops"),
    "hv:visionops/4": ("hv:visionops/4", "visionops"),
    "hsm:2?label=Approver+1": ("hsm:2?label=Approver+1", 2),
}
EXTRAS = {"awskms": "awskms", "gcpkms": "gcpkms", "azurekms": "azurekms", "hv": "vault", "hsm": "hsm"}
NEWEST = {"azurekms": "azurekms://v.vault.azure.net/keys/k/9f", "hv": "hv:visionops/4"}


@pytest.mark.parametrize("address", ADDRESSES)
def test_each_key_service_is_opened_by_its_own_signer(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the address alone, and by one beside its public half: no service is asked for here."""
    scheme = address.partition(":")[0]
    public, (signs, named) = CryptoSigner.generate_ecdsa().public_key, ADDRESSES[address]
    made: list[Any] = []
    asked: list[Any] = []

    def import_(cls: type[Signer], *what: Any) -> tuple[str, Key]:
        asked.append(inspect.signature(real).bind(*what))
        return NEWEST.get(scheme, address), public

    kind = SIGNER_FOR_URI_SCHEME[scheme]
    real = kind.import_  # type: ignore[attr-defined]
    monkeypatch.setattr(kind, "import_", classmethod(import_))
    monkeypatch.setattr(kind, "__init__", lambda self, *what: made.append(what[0]))
    key = signers.key_at(address)
    assert (key.public, key.address) == (public, signs) and len(asked) == 1
    opened = key.signer()
    assert isinstance(opened, signers._NamedSigner) and type(opened._opened) is kind
    assert made == [named]


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_key_service_whose_library_is_missing_says_how_to_get_it(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any) -> Any:
        raise UnsupportedLibraryError("no such module")

    scheme = address.partition(":")[0]
    kind = SIGNER_FOR_URI_SCHEME[scheme]
    monkeypatch.setattr(kind, "import_", missing)
    monkeypatch.setattr(kind, "__init__", missing)
    how = re.escape(f"pip install 'securesystemslib[{EXTRAS[scheme]}]'")
    with pytest.raises(KeyProblem, match=f"^the public key of {re.escape(address)} cannot be had: .*{how}$"):
        signers.key_at(address)
    held = signers.HeldKey(CryptoSigner.generate_ecdsa().public_key, ADDRESSES[address][0])
    with pytest.raises(KeyProblem, match=f"cannot sign: .*{how}$"):
        held.signer()


@pytest.mark.parametrize(
    "address", ["azurekms:k", "azurekms://v.vault.azure.net/k", "azurekms:/keys/k", "hv:", "awskms:", "hv:/4"]
)
def test_an_address_that_no_service_has_is_told_how_it_reads(address: str) -> None:
    with pytest.raises(KeyProblem, match=rf"it reads {address.partition(':')[0]}:") as raised:
        signers.key_at(address)
    assert "\n" not in str(raised.value)


def test_an_older_version_of_a_key_needs_its_public_half(monkeypatch: pytest.MonkeyPatch) -> None:
    public = CryptoSigner.generate_ecdsa().public_key
    monkeypatch.setattr(SIGNER_FOR_URI_SCHEME["hv"], "import_", lambda *_: (NEWEST["hv"], public))
    with pytest.raises(KeyProblem, match="hv:visionops/4 alone: name the PEM file of hv:visionops/3"):
        signers.key_at("hv:visionops/3")


@pytest.mark.parametrize("address", ["hsm:x", "hsm:2?label=none", "hsm:"])
def test_a_token_that_is_not_there_is_named(address: str, tmp_path: Path) -> None:
    with pytest.raises(KeyProblem, match=f"public key of {re.escape(address)} cannot be had"):
        signers.declared_keys(declared(tmp_path, bundles=[address]))


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        ({"timestamp": ["service:other"]}, "service:other cannot be had"),
        ({"timestamp": ["nokms:x"]}, "nokms:x is no address of a key"),
        ({"timestamp": ["file2:nowhere.pem"]}, r"nowhere.pem cannot be read: No such file"),
        ({"timestamp": ["file2:keys.yaml"]}, "no PEM file of a private key"),
        ({"timestamp": []}, "no key for timestamp"),
        ({"timestamp": "file2:timestamp.pem"}, "expected a list of keys"),
        ({"timestamp": [{"key": 1}]}, "a key is an address, or has `address` and `public`"),
        ({"bundles": {"threshold": 2, "keys": ["file2:bundles.pem"]}}, "threshold 2 of 1 different keys"),
        ({"bundles": {"threshold": 2, "keys": ["file2:root.pem", "file2:root.pem"]}}, "threshold 2 of 1"),
        ({"bundles": {"threshold": 0, "keys": ["file2:root.pem"]}}, "threshold 0"),
        ({"colour": ["red"]}, "colour is no role"),
    ],
)
def test_files_of_keys_that_cannot_be_used_are_named(
    tmp_path: Path, service: None, roles: dict[str, Any], said: str
) -> None:
    with pytest.raises(KeyProblem, match=said) as raised:
        signers.declared_keys(declared(tmp_path, **roles))
    assert "\n" not in str(raised.value)


def test_a_private_key_that_others_can_read_is_refused_unless_it_is_a_mounted_secret(tmp_path: Path) -> None:
    file = declared(tmp_path)
    (tmp_path / "assign.pem").chmod(0o444)
    with pytest.raises(KeyProblem, match="can be read by others"):
        signers.declared_keys(file)
    signers.declared_keys(declared(tmp_path, readable_by_others=True))


def test_a_public_half_of_another_key_is_refused(tmp_path: Path) -> None:
    declared(tmp_path)
    other = load_pem_private_key((tmp_path / "root.pem").read_bytes(), None).public_key()
    pem = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "root.pub").write_bytes(pem)
    mixed = [{"address": "file2:assign.pem", "public": "root.pub"}]
    with pytest.raises(KeyProblem, match="does not belong to its `public`"):
        signers.declared_keys(declared(tmp_path, assign=mixed))


def test_keys_are_made_once_and_for_their_owner_alone(tmp_path: Path) -> None:
    assert signers.make_keys(tmp_path / "keys")
    before = (tmp_path / "keys" / "root.pem").read_bytes()
    assert not signers.make_keys(tmp_path / "keys")
    assert (tmp_path / "keys" / "root.pem").read_bytes() == before
    assert {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "keys").iterdir()} == {
        f"{role}.pem": 0o600 for role in signers.ROLES
    }
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert [file.name for file in tmp_path.iterdir()] == ["keys"]


@pytest.mark.slow
def test_a_repository_in_a_bucket_is_exported_for_a_site_without_a_network(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    for name, value in s3.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with s3.running() as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="models")
        bucket = ArtifactStore(root="s3://models/edge")
        fleet.repository.export(bucket)
        fleet.repository = Repository(bucket, PROJECT, fleet.keys, fleet.clock)
        stick = ArtifactStore(root=str(tmp_path / "stick"))
        assert fleet.repository.export(stick) > 8
        assert fleet.repository.export(stick) == 0
        device = fleet.device(url=(tmp_path / "stick" / PROJECT).as_uri())
        assert update(device.start())["model"]["release"] == 1
        before = bucket.stamps(f"{PROJECT}/metadata")
        fleet.publish(fleet.bundle(2))
        after = bucket.stamps(f"{PROJECT}/metadata")
        assert sorted(after) == bucket.names(f"{PROJECT}/metadata")
        assert [name for name in before if after[name] != before[name]] == ["timestamp.json"]
        assert fleet.repository.export(stick) > 3
    assert update(device.start())["model"]["release"] == 2
    assert not (tmp_path / "stick" / PROJECT / "staged").exists()
    assert json.loads(stick.read(f"{PROJECT}/metadata/timestamp.json"))
