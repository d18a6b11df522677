"""Attacks on a device, each by name: what a repository that lies, replays or lost its keys can make a device do."""

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, TargetFile, Targets

from edge.agent import Agent
from edge.fetch import Unreachable
from edge.formats import canonical
from edge.trust import Distrusted
from resources.storage import ArtifactStore
from tests.devices.small_fleet import GROUP, PROJECT, Bundle, Device, Fleet, frame, update
from visionops_assets.delivery import signers
from visionops_assets.delivery.repository import Repository
from visionops_assets.delivery.signers import HeldKey, Keys, RoleKeys

ONLINE = ("assign", "snapshot", "timestamp")


def refused(agent: Agent, problem: str) -> str:
    """The device takes nothing of it, says why in this word, and goes on answering."""
    with pytest.raises(Distrusted) as raised:
        agent.look()
    assert raised.value.problem == problem, raised.value
    assert agent.answer(frame())["model"]["release"] == 1
    assert agent.state.phase == "IDLE"
    return str(raised.value)


class Thief:
    """Has copied the repository and stolen keys, and answers devices in its place."""

    def __init__(self, fleet: Fleet, folder: Path, stolen: tuple[str, ...]) -> None:
        shutil.copytree(fleet.root / "repository", folder / "repository")
        self.fleet, self.folder = fleet, folder
        self.store = ArtifactStore(root=str(folder / "repository"))
        self.url = (folder / "repository" / PROJECT).as_uri()
        own = RoleKeys((HeldKey(CryptoSigner.generate_ed25519().public_key, None),))
        roles = {role: fleet.keys.roles[role] if role in stolen else own for role in signers.ROLES}
        self.repository = Repository(self.store, PROJECT, Keys(roles), fleet.clock)

    def sign(self, name: str, change: Callable[[Any], None]) -> None:
        """Change a role's newest metadata, signed by stolen keys, and everything above it."""
        published = self.repository.read()
        role = f"assign-{GROUP}" if name == "assign" else name
        found: dict[str, Metadata[Any]] = {
            "snapshot": published.snapshot,
            "timestamp": published.timestamp,
            "targets": published.targets,
            **published.delegated,
        }
        each = found[role]
        each.signed.version += 1
        change(each.signed)
        each.signatures.clear()
        for signer in self.repository.keys.signers(name) or [CryptoSigner.generate_ed25519()]:
            each.sign(signer, append=True)
        self.repository._write(f"metadata/{each.signed.version}.{role}.json", each)
        if name not in ("snapshot", "timestamp"):
            published.snapshot.signed.meta[f"{role}.json"] = MetaFile(each.signed.version)
            self.repository._commit(published)

    def assign(self, content: dict[str, Any]) -> None:
        """Name whatever as the group's assignment."""
        before = self.repository.assignment(GROUP) or {}
        data = canonical({**before, "serial": before["serial"] + 1, **content})
        path = f"groups/{GROUP}/assignment.json"
        info = TargetFile.from_data(path, data, ["sha256"])
        self.repository._store.write(
            f"{PROJECT}/targets/groups/{GROUP}/{info.hashes['sha256']}.assignment.json", data
        )

        def list_it(targets: Targets) -> None:
            targets.targets = {path: info}

        self.sign("assign", list_it)


def follows(device: Device, url: str) -> Agent:
    """The device, led to another repository."""
    device.url = url
    return device.start()


def test_an_older_timestamp_is_refused(fleet: Fleet, device: Device) -> None:
    old = fleet.store.read(f"{PROJECT}/metadata/timestamp.json")
    fleet.publish(fleet.bundle(2))
    update(device.start())
    fleet.store.write(f"{PROJECT}/metadata/timestamp.json", old)
    with pytest.raises(Distrusted, match="went back"):
        device.start().look()


def test_an_older_timestamp_is_refused_though_tufs_cache_is_lost(fleet: Fleet, device: Device) -> None:
    old = fleet.store.read(f"{PROJECT}/metadata/timestamp.json")
    fleet.publish(fleet.bundle(2))
    update(device.start())
    fleet.store.write(f"{PROJECT}/metadata/timestamp.json", old)
    shutil.rmtree(device.folder / "state" / "trust" / "cache")
    with pytest.raises(Distrusted, match="a replay"):
        device.start().look()


@pytest.mark.parametrize("damage", ["emptied", "cut", "noise", "gone"])
def test_whatever_happens_to_tufs_cache_the_device_recovers(
    fleet: Fleet, device: Device, damage: str
) -> None:
    cache = device.folder / "state" / "trust" / "cache"
    files = [file for file in sorted(cache.rglob("*")) if file.is_file()]
    assert len(files) >= 5
    for file in files:
        content = file.read_bytes() if file.exists() else b"{}"
        file.unlink(missing_ok=True)
        if damage != "gone":
            file.write_bytes(
                {"emptied": b"", "cut": content[: len(content) // 2]}.get(damage, os.urandom(99))
            )
        device.start().look()
    fleet.publish(fleet.bundle(2))
    assert update(device.start())["model"]["release"] == 2


def test_an_assignment_altered_by_a_bit_is_refused(fleet: Fleet, device: Device) -> None:
    fleet.assign(base=fleet.bundle(1, release=1).named)
    (file,) = [
        file
        for file in (fleet.root / "repository" / PROJECT / "targets" / "groups" / GROUP).iterdir()
        if json.loads(file.read_bytes())["serial"] == 2
    ]
    file.write_bytes(file.read_bytes().replace(b'"floor"', b'"Floor"').replace(b'"serial":2', b'"serial":3'))
    refused(device.start(), "altered")


def test_a_file_altered_by_a_bit_is_quarantined_after_three_tries(fleet: Fleet, device: Device) -> None:
    second = fleet.bundle(2)
    fleet.publish(second)
    sha256 = second.manifest["files"]["model.onnx"]["sha256"]
    blob = fleet.root / "repository" / PROJECT / "blobs" / sha256
    blob.write_bytes(bytes([blob.read_bytes()[0] ^ 1]) + blob.read_bytes()[1:])
    agent = device.start()
    assert update(agent)["model"]["release"] == 1
    assert [why for _, why, _ in agent.state.quarantine] == ["bad_digest"]
    assert agent._files.names("incoming") == []


def test_a_bundle_that_approvers_did_not_sign_is_refused(
    fleet: Fleet, device: Device, tmp_path: Path
) -> None:
    thief = Thief(fleet, tmp_path / "thief", ONLINE)
    thief.assign({"base": fleet.bundle(66).named})
    refused(follows(device, thief.url), "unsigned")


def test_an_online_key_cannot_list_a_bundle_in_its_own_role(
    fleet: Fleet, device: Device, tmp_path: Path
) -> None:
    thief = Thief(fleet, tmp_path / "thief", ONLINE)
    evil = fleet.bundle(66)
    data = canonical(evil.manifest)
    info = TargetFile.from_data(f"bundles/{evil.id}.json", data, ["sha256"])
    thief.assign({"base": evil.named})
    thief.sign("assign", lambda targets: targets.targets.update({info.path: info}))
    thief.store.write(f"{PROJECT}/targets/bundles/{info.hashes['sha256']}.{evil.id}.json", data)
    refused(follows(device, thief.url), "unsigned")


@pytest.mark.parametrize("role", ["bundles", "assign", "snapshot", "timestamp", "targets"])
def test_a_role_signed_by_a_stranger_is_refused(
    fleet: Fleet, device: Device, tmp_path: Path, role: str
) -> None:
    thief = Thief(fleet, tmp_path / "thief", tuple(each for each in signers.ROLES if each != role))
    published = thief.repository.read()
    stranger = CryptoSigner.generate_ed25519()
    name = f"assign-{GROUP}" if role == "assign" else role
    each: Metadata[Any] = {
        "targets": published.targets,
        "snapshot": published.snapshot,
        "timestamp": published.timestamp,
        **published.delegated,
    }[name]  # type: ignore[assignment]
    thief.repository._sign = lambda metadata, own, judge, of: [  # type: ignore[method-assign, assignment]
        metadata.sign(signer, append=True) for signer in (own if of != role else [stranger])
    ]
    if role not in ("snapshot", "timestamp"):
        each.signed.version += 1
        each.signatures.clear()
        each.sign(stranger)
        thief.repository._write(f"metadata/{each.signed.version}.{name}.json", each)
    thief.repository._commit(published)
    refused(follows(device, thief.url), "unsigned")


def test_a_repository_of_another_project_under_the_same_keys_is_refused(fleet: Fleet, device: Device) -> None:
    other = Repository(fleet.store, "parts", fleet.keys, fleet.clock)
    other.create()
    other.add_group(GROUP)
    bundle = fleet.bundle(5, project="parts")
    other.add_bundle(bundle.manifest, bundle.blobs)
    other.assign(GROUP, {"base": bundle.named})
    shutil.rmtree(device.folder / "state" / "trust")
    said = refused(follows(device, (fleet.root / "repository" / "parts").as_uri()), "foreign")
    assert "parts" in said and PROJECT in said


def test_another_groups_assignment_is_refused(fleet: Fleet, device: Device, tmp_path: Path) -> None:
    fleet.repository.add_group("line-2")
    fleet.repository.assign("line-2", {"base": fleet.bundle(1, release=1).named})
    theirs = fleet.repository.assignment("line-2")
    assert theirs is not None
    thief = Thief(fleet, tmp_path / "thief", ONLINE)
    thief.assign({**theirs, "serial": 9})
    assert "line-2" in refused(follows(device, thief.url), "foreign")


def test_a_release_below_the_floor_is_refused_and_the_same_model_under_a_new_release_is_taken(
    fleet: Fleet, device: Device
) -> None:
    second = fleet.bundle(2)
    fleet.publish(second, floor=2)
    third = fleet.bundle(3)
    fleet.publish(third, floor=3)
    agent = device.start()
    assert update(agent)["model"]["release"] == 3
    fleet.assign(base=second.named, floor=2)
    assert update(agent)["model"]["release"] == 3
    assert agent.state.quarantined(agent.state.good) is None  # type: ignore[arg-type]
    assert "below_floor" in [event.get("why") for event in device.events()]
    again = Bundle({**second.manifest, "release": 4}, second.blobs)
    fleet.publish(again, floor=3)
    assert update(agent)["model"]["release"] == 4


def test_a_stolen_online_key_cannot_go_below_the_floor(fleet: Fleet, device: Device, tmp_path: Path) -> None:
    first = fleet.bundle(1, release=1)
    fleet.publish(fleet.bundle(2), floor=2)
    assert update(device.start())["model"]["release"] == 2
    thief = Thief(fleet, tmp_path / "thief", ONLINE)
    thief.assign({"base": first.named, "floor": 0})
    agent = follows(device, thief.url)
    assert update(agent)["model"]["release"] == 2
    assert device.events()[-1]["why"] == "below_floor"


def test_an_expired_timestamp_stops_no_model_and_a_fresh_one_is_followed(
    fleet: Fleet, device: Device
) -> None:
    fleet.clock.pass_(days=8)
    refused(device.start(), "expired")
    assert fleet.repository.refresh() == ["timestamp"]
    fleet.publish(fleet.bundle(2))
    assert update(device.start())["model"]["release"] == 2


def test_a_clock_in_1972_does_not_make_an_expired_timestamp_young(fleet: Fleet, device: Device) -> None:
    now = fleet.clock.time
    fleet.clock.pass_(days=8)
    device.synchronised = True
    refused(device.start(), "expired")
    # Without a battery the clock starts anew, and nobody tells it the time.
    device.synchronised = False
    fleet.clock.time = datetime(1972, 1, 1, tzinfo=UTC)
    refused(device.start(), "expired")
    fleet.clock.time = now + timedelta(days=8)
    fleet.repository.refresh()
    device.start().look()


def test_a_clock_a_year_ahead_says_expired_and_serves(fleet: Fleet, device: Device) -> None:
    fleet.clock.pass_(days=366)
    refused(device.start(), "expired")
    fleet.clock.pass_(days=-366)
    fleet.publish(fleet.bundle(2))
    assert update(device.start())["model"]["release"] == 2


@pytest.mark.parametrize(
    ("dated", "synchronised"), [("2099-01-01T00:00:00Z", False), ("tomorrow and a day", True)]
)
def test_an_assignment_dated_in_the_far_future_is_refused(
    fleet: Fleet, device: Device, tmp_path: Path, dated: str, synchronised: bool
) -> None:
    at = dated if dated.startswith("2") else f"{fleet.clock.time + timedelta(days=2):%Y-%m-%dT%H:%M:%SZ}"
    thief = Thief(fleet, tmp_path / "thief", ONLINE)
    thief.assign({"issued_at": at})
    device.synchronised = synchronised
    refused(follows(device, thief.url), "future")


def test_a_floor_above_its_own_base_is_refused(fleet: Fleet, device: Device, tmp_path: Path) -> None:
    thief = Thief(fleet, tmp_path / "thief", ONLINE)
    thief.assign({"floor": 10**9})
    refused(follows(device, thief.url), "format")


def test_fast_forward_ends_with_the_stolen_keys_and_devices_recover_untouched(
    fleet: Fleet, device: Device, tmp_path: Path
) -> None:
    """15.26: version 2³¹, the farthest date, the highest serial; then root gives the three roles other keys."""
    thief = Thief(fleet, tmp_path / "thief", ONLINE)

    def far(signed: Any) -> None:
        signed.version = 2**31

    thief.assign({"serial": 2**31, "issued_at": "2035-12-31T00:00:00Z"})
    thief.sign("assign", far)
    published = thief.repository.read()
    published.snapshot.signed.version = published.timestamp.signed.version = 2**31
    thief.repository._commit(published)
    agent = follows(device, thief.url)
    agent.look()
    # The thief is gone, but what it left makes everything that is honest look like a replay.
    device.url = None
    with pytest.raises(Distrusted):
        device.start().look()
    assert device.start().answer(frame())["model"]["release"] == 1
    rotate_embedded(fleet, *ONLINE)
    fleet.publish(fleet.bundle(2))
    assert update(device.start())["model"]["release"] == 2


def test_an_automatic_rollback_reaches_a_device_while_the_approvers_keys_are_absent(
    fleet: Fleet, device: Device
) -> None:
    """15.28: going back to a bundle that is held takes no signature of an approver."""
    first = fleet.bundle(1, release=1)
    fleet.publish(fleet.bundle(2), floor=1)
    agent = device.start()
    assert update(agent)["model"]["release"] == 2
    absent = {
        **fleet.keys.roles,
        "bundles": RoleKeys((HeldKey(fleet.keys.roles["bundles"].keys[0].public, None),)),
    }
    online = Repository(fleet.store, PROJECT, Keys(absent), fleet.clock)
    online.assign(GROUP, {"base": first.named, "floor": 1})
    asked = device.client.bytes
    assert update(agent)["model"]["release"] == 1
    assert agent.state.phase == "IDLE"
    # What it served before is still there.
    assert device.client.bytes - asked < 10_000


def test_three_root_rotations_while_a_device_was_off_are_followed(fleet: Fleet, device: Device) -> None:
    for _ in range(3):
        rotate_embedded(fleet, "root", "timestamp")
    fleet.publish(fleet.bundle(2))
    agent = device.start()
    assert update(agent)["model"]["release"] == 2
    known = json.loads((device.folder / "state" / "trust" / "root.json").read_bytes())
    assert known["signed"]["version"] == 7
    # And from then on from its own newest root, with nothing of TUF's cache.
    shutil.rmtree(device.folder / "state" / "trust" / "cache")
    device.start().look()


def test_a_threshold_of_two_takes_two_different_approvers(fleet: Fleet, device: Device) -> None:
    held = []
    for name in ("alice", "bob"):
        signers.write_key(fleet.root / f"{name}.pem")
        held.append(signers.key_at(f"file2:{fleet.root / name}.pem"))
    alice, bob = (each.signer() for each in held)
    # Approvers sign the list that is there once more, when they take over; then their keys leave this machine.
    together = Keys({**fleet.keys.roles, "bundles": RoleKeys(tuple(held), 2)})
    Repository(fleet.store, PROJECT, together, fleet.clock).rotate("bundles")
    away = RoleKeys(tuple(HeldKey(each.public, None) for each in held), 2)
    repository = Repository(fleet.store, PROJECT, Keys({**fleet.keys.roles, "bundles": away}), fleet.clock)
    second = fleet.bundle(2)
    assert not repository.add_bundle(second.manifest, second.blobs)
    assert repository.sign_bundle(alice) == "signed by 1 of 2 approvers"
    assert repository.sign_bundle(alice) == "signed by 1 of 2 approvers"
    assert not repository.complete_bundle()
    update(device.start())
    with pytest.raises(Exception, match="none of the approvers"):
        repository.sign_bundle(CryptoSigner.generate_ed25519())
    assert repository.sign_bundle(bob) == "signed by 2 of 2 approvers"
    assert repository.complete_bundle()
    repository.assign(GROUP, {"base": second.named, "observe": {"frames": 1}})
    assert update(device.start())["model"]["release"] == 2


def test_a_repository_that_is_gone_stops_no_model(fleet: Fleet, device: Device) -> None:
    (fleet.root / "repository").rename(fleet.root / "elsewhere")
    agent = device.start()
    with pytest.raises(Unreachable):
        agent.look()
    assert agent.answer(frame())["model"]["release"] == 1


def test_a_runtime_that_lacks_the_opset_refuses_before_a_byte_is_fetched(
    fleet: Fleet, device: Device
) -> None:
    fleet.publish(fleet.bundle(2, requires={"opset": 21, "ir": 9}))
    device.facts = {**device.facts, "onnxruntime": "1.17.3"}
    agent = device.start()
    assert update(agent)["model"]["release"] == 1
    event = device.events()[-1]
    assert (event["event"], event["why"]) == ("refused", "wrong_runtime")
    assert "ONNX Runtime 1.18" in event["detail"]
    assert agent._files.names("incoming") == []
    # With another runtime it is taken, though nothing was published meanwhile.
    device.facts = {**device.facts, "onnxruntime": "1.18.0"}
    assert update(device.start())["model"]["release"] == 2


def test_a_newer_format_names_the_side_that_is_behind(fleet: Fleet, device: Device, tmp_path: Path) -> None:
    thief = Thief(fleet, tmp_path / "thief", ONLINE)
    thief.assign({"format": 2})
    assert "update visionops-edge" in refused(follows(device, thief.url), "format")


def rotate_embedded(fleet: Fleet, *roles: str) -> None:
    """New keys for these roles, as the command makes them."""
    for role in roles:
        signers.begin_rotation(fleet.root / "keys", role)
        new, going = signers.rotating(fleet.root / "keys", role)
        Repository(fleet.store, PROJECT, new, fleet.clock).rotate(role, going)
        signers.end_rotation(fleet.root / "keys", role)
    fleet.keys = signers.embedded_keys(fleet.root / "keys")
    fleet.repository = Repository(fleet.store, PROJECT, fleet.keys, fleet.clock)
