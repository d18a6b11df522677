"""A publisher that is killed at any step has published nothing or all, and the next one goes on."""

import contextlib
from pathlib import Path

import pytest

from tests.devices.broken_disks import DyingStore, Killed
from tests.devices.small_fleet import GROUP, PROJECT, Fleet, update
from visionops_assets.delivery import signers
from visionops_assets.delivery.repository import Repository
from visionops_assets.delivery.tuf_files import CannotPublish


def publish(repository: Repository, fleet: Fleet, seed: int) -> None:
    bundle = fleet.bundle(seed, release=seed)
    if repository.add_bundle(bundle.manifest, bundle.blobs):
        repository.assign(GROUP, {"base": bundle.named, "observe": {"frames": 1}})


def test_killed_before_every_write_of_a_publication(fleet: Fleet, tmp_path: Path) -> None:
    agent = fleet.device().start()
    assert update(agent)["model"]["release"] == 1
    root = str(tmp_path / "repository")
    whole, seed = 0, 2
    for step in range(40):
        dying = Repository(DyingStore(root=root, left=step), PROJECT, fleet.keys, fleet.clock)
        before = (fleet.repository.assignment(GROUP) or {})["base"]["release"]
        try:
            publish(dying, fleet, seed)
            whole += 1
        except Killed:
            pass
        # Whatever was left, what is published is whole: a device takes it, old or new.
        found = update(agent)["model"]["release"]
        assert found in (before, seed)
        assert agent.problems == {}
        publish(fleet.repository, fleet, seed)
        assert update(agent)["model"]["release"] == seed
        if whole:
            break
        seed += 1
    assert whole == 1 and step >= 10


def test_what_a_killed_publisher_staged_stands_in_nobodys_way(fleet: Fleet, tmp_path: Path) -> None:
    """Another version than the one that was under way is published next."""
    agent = fleet.device().start()
    assert update(agent)["model"]["release"] == 1
    root = str(tmp_path / "repository")
    for step in range(12):
        dying = Repository(DyingStore(root=root, left=step), PROJECT, fleet.keys, fleet.clock)
        with contextlib.suppress(Killed):
            publish(dying, fleet, 100 + step)
        publish(fleet.repository, fleet, 200 + step)
        assert fleet.repository.waiting() is None
        assert update(agent)["model"]["release"] == 200 + step


def test_what_waits_for_approvers_whose_keys_were_changed_is_published_anew(
    fleet: Fleet, tmp_path: Path
) -> None:
    signer = fleet.keys.roles["bundles"].keys[0]
    away = signers.RoleKeys((signers.HeldKey(signer.public, None),))
    without = Repository(
        fleet.store, PROJECT, signers.Keys({**fleet.keys.roles, "bundles": away}), fleet.clock
    )
    second = fleet.bundle(2)
    assert not without.add_bundle(second.manifest, second.blobs)
    with pytest.raises(CannotPublish, match="waits for approvers"):
        third = fleet.bundle(3)
        without.add_bundle(third.manifest, third.blobs)
    signers.begin_rotation(tmp_path / "keys", "bundles")
    new, going = signers.rotating(tmp_path / "keys", "bundles")
    Repository(fleet.store, PROJECT, new, fleet.clock).rotate("bundles", going)
    assert without.waiting() is None
    assert Repository(fleet.store, PROJECT, new, fleet.clock).add_bundle(second.manifest, second.blobs)


@pytest.mark.parametrize("role", signers.ROLES)
def test_killed_before_every_write_of_a_change_of_keys(fleet: Fleet, tmp_path: Path, role: str) -> None:
    agent = fleet.device().start()
    update(agent)
    for step in range(8):
        signers.begin_rotation(tmp_path / "keys", role)
        new, going = signers.rotating(tmp_path / "keys", role)
        dying = Repository(
            DyingStore(root=str(tmp_path / "repository"), left=step), PROJECT, new, fleet.clock
        )
        try:
            dying.rotate(role, going)
            killed = False
        except Killed:
            killed = True
        # Devices know the signatures at each moment, and the next publisher has keys for what it finds.
        agent.look()
        present = Repository(fleet.store, PROJECT, signers.embedded_keys(tmp_path / "keys"), fleet.clock)
        present.assign(GROUP, present.assignment(GROUP) or {})
        agent.look()
        again, going = signers.rotating(tmp_path / "keys", role)
        Repository(fleet.store, PROJECT, again, fleet.clock).rotate(role, going)
        agent.look()
        signers.end_rotation(tmp_path / "keys", role)
        fleet.keys = signers.embedded_keys(tmp_path / "keys")
        fleet.repository = Repository(fleet.store, PROJECT, fleet.keys, fleet.clock)
        fleet.repository.assign(GROUP, fleet.repository.assignment(GROUP) or {})
        agent.look()
        if not killed:
            return
    raise AssertionError("a change of keys takes more writes than were looked at")


@pytest.mark.parametrize("role", [role for role in signers.ROLES if role != "root"])
def test_a_key_that_is_lost_is_replaced_and_devices_follow(fleet: Fleet, tmp_path: Path, role: str) -> None:
    agent = fleet.device().start()
    update(agent)
    (tmp_path / "keys" / f"{role}.pem").unlink()
    signers.begin_rotation(tmp_path / "keys", role)
    new, going = signers.rotating(tmp_path / "keys", role)
    assert going == []
    Repository(fleet.store, PROJECT, new, fleet.clock).rotate(role, going)
    signers.end_rotation(tmp_path / "keys", role)
    fleet.repository = Repository(fleet.store, PROJECT, signers.embedded_keys(tmp_path / "keys"), fleet.clock)
    fleet.publish(fleet.bundle(2))
    assert update(agent)["model"]["release"] == 2
