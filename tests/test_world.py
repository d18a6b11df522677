"""What the worlds of tests leave behind in the process that made them."""

from contextlib import suppress
from pathlib import Path

from tests.world import copied_world


def open_below(folder: Path) -> list[str]:
    """Files below a folder that this process has open, and those that are gone by now."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(each.readlink()))
    return sorted(name for name in found if name.startswith(f"{folder}/"))


def test_a_world_that_is_closed_has_no_file_open(empty_template: Path, tmp_path: Path) -> None:
    """A worker that runs hundreds of them had more files open than `select` can count."""
    with copied_world(empty_template, tmp_path) as world:
        assert world.champion() is None and world.instance.get_runs() == []
        assert open_below(tmp_path)
    assert open_below(tmp_path) == []
