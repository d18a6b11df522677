"""What the tests of devices share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.devices.small_fleet import Device, Fleet, update


@pytest.fixture(scope="session", autouse=True)
def disks_that_are_not_waited_for() -> Iterator[None]:
    """What a device of a test writes need not survive the test's machine; `broken_disks` holds what is waited for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """A fleet whose repository has release 1."""
    made = Fleet(tmp_path)
    made.publish(made.bundle(1))
    return made


@pytest.fixture
def device(fleet: Fleet) -> Device:
    """A device that runs release 1."""
    made = fleet.device()
    update(made.start())
    return made
