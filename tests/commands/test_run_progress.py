"""What a person sees while `tick` works: one line in a terminal, now and then one elsewhere, nothing with --quiet."""

import os
import pty
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.world import World
from visionops import run_progress
from visionops.run_progress import shown_progress

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@contextmanager
def standard_error_is(descriptor: int) -> Iterator[None]:
    before = os.dup(2)
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def in_a_terminal(act: Callable[[], object]) -> str:
    """All that is written to standard error while it is a terminal of 100 columns."""
    master, slave = pty.openpty()
    written: list[bytes] = []

    def read() -> None:
        try:
            while piece := os.read(master, 4096):
                written.append(piece)
        except OSError:
            """The other end is closed."""

    reader = threading.Thread(target=read)
    reader.start()
    with standard_error_is(slave):
        act()
    os.close(slave)
    reader.join()
    os.close(master)
    return b"".join(written).decode()


def into_a_file(path: Path, act: Callable[[], object]) -> list[str]:
    with path.open("wb") as file, standard_error_is(file.fileno()):
        act()
    return path.read_text().splitlines()


def test_a_terminal_shows_phase_epoch_loss_and_share_on_one_line_that_is_gone_at_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    world.publish("week-01", 120, seed=1)

    def tick() -> None:
        with shown_progress():
            assert world.tick().outcome == "promoted"

    seen = in_a_terminal(tick)
    frames = [ESCAPES.sub("", frame) for frame in re.split(r"[\r\n]+", seen)]
    last = [frame for frame in frames if "epoch 6 of 6" in frame]
    assert last and re.search(r"shapes week-01: training, epoch 6 of 6, loss \d", last[0]), frames
    assert "100%" in last[0] and re.search(r"0:00:\d\d", last[0])
    assert any("reading the dataset version" in frame for frame in frames)
    assert seen.rstrip().endswith("\x1b[2K") or "\x1b[1A\x1b[2K" in seen, "the line is taken away"


def test_elsewhere_a_line_tells_each_phase_and_long_trainings_now_and_then(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publish("week-01", 120, seed=1)

    def tick(wanted: bool) -> Callable[[], None]:
        def act() -> None:
            with shown_progress(wanted):
                world.tick()

        return act

    assert into_a_file(tmp_path / "loud", tick(True)) == [
        "shapes week-01: reading the dataset version",
        "shapes week-01: training",
        "shapes week-01: judging",
        "shapes week-01: promoting",
    ]
    monkeypatch.setattr(run_progress, "EVERY_SECONDS", 0.0)
    world.publish("week-02", 60, seed=2)
    told = into_a_file(tmp_path / "often", tick(True))
    assert sum("epoch" in line for line in told) == 6, told
    world.publish("week-03", 30, seed=3)
    assert into_a_file(tmp_path / "quiet", tick(False)) == []
