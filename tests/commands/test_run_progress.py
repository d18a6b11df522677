"""What a person sees while `tick` works: one line in a terminal, now and then one elsewhere, nothing with --quiet."""

import os
import pty
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.world import World, shapes_project
from visionops import terminal
from visionops.terminal import Doing, Follower, progress_line, shown_line, shown_progress
from visionops_assets.common import progress as told

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


@pytest.mark.slow
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
    # Within the epoch it may have been shown before, by less.
    assert any("100%" in frame and re.search(r"0:00:\d\d", frame) for frame in last), frames
    assert any("reading the dataset version" in frame for frame in frames)
    assert seen.rstrip().endswith("\x1b[2K") or "\x1b[1A\x1b[2K" in seen, "the line is taken away"


@pytest.mark.stated
def test_within_an_epoch_share_and_time_left_move_and_80_columns_are_enough(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(told, "EVERY_SECONDS", 0.0)
    recipe = {**world.project.recipe.model_dump(mode="json"), "batch_size": 1, "epochs": 2}
    world.projects = [shapes_project(recipe=recipe)]
    world.publish("week-01", 300, seed=1)

    def tick() -> None:
        with shown_progress():
            assert world.tick().outcome != "error"

    frames = [ESCAPES.sub("", frame) for frame in re.split(r"[\r\n]+", in_a_terminal(tick))]
    shares = [
        int(found[1]) for each in frames if (found := re.search(r"epoch 1 of 2, loss \d.* (\d+)% \d:", each))
    ]
    # How many of them a quick machine shows is its own affair; one of a whole epoch would be the only one.
    assert len(set(shares)) >= 2 and shares == sorted(shares) and shares[0] < 50, frames
    assert max(map(len, frames)) <= 80


@pytest.mark.stated
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
        "shapes week-01: evaluating",
        "shapes week-01: carrying out the verdict",
    ]
    monkeypatch.setattr(terminal, "EVERY_SECONDS", 0.0)
    world.publish("week-02", 60, seed=2)
    lines = into_a_file(tmp_path / "often", tick(True))
    epochs = [found[1] for line in lines if (found := re.search(r"epoch (\d) of 6", line))]
    assert epochs == sorted(epochs) and set(epochs) == set("123456"), lines
    world.publish("week-03", 30, seed=3)
    assert into_a_file(tmp_path / "quiet", tick(False)) == []


def test_of_short_work_nothing_is_said_and_of_long_work_share_and_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        with progress_line("week-01") as hear:
            hear("checked", 1, 4)
            hear("checked", 2, 4)

    assert into_a_file(tmp_path / "short", work) == []
    monkeypatch.setattr(terminal, "EVERY_SECONDS", 0.0)
    first, second = into_a_file(tmp_path / "long", work)
    assert first == "week-01: checked, 1 of 4"
    assert re.fullmatch(r"week-01: checked, 2 of 4 \(50%, 0:0\d left\)", second)


def test_what_is_to_stay_is_above_the_line_and_quiet_says_neither(tmp_path: Path) -> None:
    def work(wanted: bool) -> Callable[[], None]:
        def act() -> None:
            with shown_line("shapes", wanted=wanted) as line:
                line.show(Doing("training"))
                line.say("version 1 [of 2] is reused")

        return act

    frames = [ESCAPES.sub("", frame).strip() for frame in re.split(r"[\r\n]+", in_a_terminal(work(True)))]
    assert "version 1 [of 2] is reused" in frames, frames
    assert into_a_file(tmp_path / "loud", work(True)) == ["shapes: training", "version 1 [of 2] is reused"]
    assert into_a_file(tmp_path / "quiet", work(False)) == []


def test_a_line_of_an_epoch_moves_what_is_shown_and_others_are_for_whoever_reads() -> None:
    shown: list[Doing] = []
    follower = Follower(shown.append)
    follower.enter("training")
    assert follower.read("epoch 3 of 12: loss 0.1234, validation accuracy 0.970")
    assert not follower.read("the ONNX file agrees with the trained model")
    follower.hear("epoch 4 of 12, loss 0.1100", 3.5, 12)
    assert shown[-1].sentence() == "training, epoch 4 of 12, loss 0.1100, validation accuracy 0.970"
    assert (shown[-1].done, shown[-1].of) == (3.5, 12)
