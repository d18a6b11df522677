"""What the tests of devices share."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.devices.small_fleet import Clock, Device, Fleet, update


@pytest.fixture(scope="session", autouse=True)
def disks_that_are_not_waited_for() -> Iterator[None]:
    """What a device of a test writes need not survive the test's machine; `broken_disks` holds what is waited for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """A fleet whose repository has release 1, and a device that runs it: made once, for copies."""
    made = Fleet(tmp_path_factory.mktemp("fleet"))
    made.publish(made.bundle(1))
    update(made.device().start())
    return made


def copy(template: Fleet, root: Path, *folders: str) -> None:
    for folder in folders:
        shutil.copytree(template.root / folder, root / folder, symlinks=True)


@pytest.fixture
def fleet(template: Fleet, tmp_path: Path) -> Fleet:
    """A fleet whose repository has release 1."""
    copy(template, tmp_path, "keys", "repository")
    return Fleet(tmp_path, Clock(template.clock.time))


@pytest.fixture
def device(template: Fleet, fleet: Fleet) -> Device:
    """A device that runs release 1."""
    copy(template, fleet.root, "devices", "reports")
    return fleet.device()
