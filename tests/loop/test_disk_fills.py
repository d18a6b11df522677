"""A real disk that fills while a command works on it: one line names it, and the same command goes on once there is
room."""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from homes import Home
from verbs import Verb, filled, marked

from lakefs_local import discovery
from tests.small_disk import SmallDisk, small_disk
from tests.world import shapes_project

# Change nothing, never end, need no room, or are many of these.
WITHOUT = ("serve", "verify", "why", "status", "doctor", "demo", "move")
PLENTY = 1 << 30
# From what takes not even SQLite's shared memory to what a training leaves.
LEAST, MOST = 1 << 12, 4 << 20
# A run begins, and does not end.
BEGINS = 800_000
LONGEST = 2000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk on which a home is to lie."""
    place = tmp_path / "disk"
    place.mkdir()
    opened = small_disk(place)
    try:
        made = opened.__enter__()
    except PermissionError as error:
        pytest.skip(str(error))
    try:
        yield made
    finally:
        discovery.stop(made.seen / "home" / "lakefs")
        opened.__exit__(None, None, None)


def begun(verb: Verb, disk: SmallDisk, template: Path) -> tuple[Home, list[str]]:
    """A home on the disk, which gives up after one attempt, and the command line."""
    shutil.copytree(template, disk.seen, symlinks=True, dirs_exist_ok=True)
    declared = shapes_project(trigger={"attempts": 1}).model_dump(mode="json", exclude_none=True)
    (disk.seen / "projects" / "shapes.yaml").write_text(yaml.safe_dump(declared))
    home = Home(disk.place)
    # The run is named by the home that was copied: this one is seen from inside of the disk only.
    named = "{run}" in " ".join((verb.line, *verb.first))
    run = filled("{run}", Home(template))[0] if named else ""
    for line in ("home show", *verb.first):
        done = home.visionops(*line.replace("{run}", run).split(), before=disk)
        assert done.code == 0, done.said
    return home, filled(verb.line.replace("{run}", run), home)


@pytest.mark.slow
@pytest.mark.parametrize("verb", marked("tick", without=WITHOUT))
def test_a_disk_that_fills_is_named_uses_up_nothing_and_the_command_goes_on(
    verb: Verb,
    disk: SmallDisk,
    imported: Path,
    request: pytest.FixtureRequest,
    count: Callable[[int, int], int],
) -> None:
    template = request.getfixturevalue("grown").root if verb.grown else imported
    home, line = begun(verb, disk, template)
    generator = random.Random(f"disks of {verb.line}")
    done = None
    for number in range(count(1, 4)):
        free = int(LEAST * (MOST / LEAST) ** generator.random()) if number else BEGINS
        disk.leave(free)
        done = home.visionops(*line, before=disk)
        if done.code == 0:
            break
        if number and 1 in verb.again and "is there already" in done.said:
            break
        about = f"{free:,} bytes: {done.said}"
        assert done.code == 1 and "Traceback" not in done.said and len(done.said) < LONGEST, about
        # Dagster itself says of each line of a log that it could not keep it.
        ours = [said for said in done.said.splitlines() if "while writing logger call" not in said]
        assert len([said for said in ours if "no room is left" in said or "is full" in said]) == 1, about
        for name in verb.writes:
            assert not (disk.seen / name).exists(), about
    disk.leave(PLENTY)
    again = home.visionops(*line, before=disk)
    # `init` goes on by `import`, as it says.
    failed = (done is None or done.code) and verb.name != "init"
    assert again.code in ((0,) if failed else verb.again), again.said
    after = home.visionops("tick", before=disk)
    assert after.code == 0 and "error" not in after.said, after.said
