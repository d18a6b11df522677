"""Checks are made side by side, in a limited time, and never tell a secret."""

import os
import threading

import pytest

from visionops.diagnosis.checking import Check, Finding, broken, ok, rows


def check(subject: str, look: object, setting: str = "VARIABLE=value") -> Check:
    assert callable(look)
    return Check(subject, setting, "try it", "mend it", look)


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else runs here."""
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0.1, 0.1))


def test_one_that_hangs_is_broken_and_the_others_are_told():
    never = threading.Event()
    found = list(
        rows(
            [check("one", lambda: ok("well")), check("two", never.wait), check("three", lambda: ok("well"))],
            0.3,
        )
    )
    assert [(row.subject, row.state) for row in found] == [("one", "ok"), ("two", "broken"), ("three", "ok")]
    assert (found[1].what, found[1].fix) == ("no answer within 0.3 s", "mend it")
    never.set()


def test_what_is_late_on_a_busy_machine_is_unknown_and_not_broken(monkeypatch: pytest.MonkeyPatch):
    never = threading.Event()
    for load, state in ((1.0, "broken"), (400.0, "warning")):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, load, load))
        monkeypatch.setattr(os, "cpu_count", lambda: 2)
        (row,) = rows([check("one", never.wait)], 0.1)
        assert row.state == state and row.fix.endswith("mend it")
    assert "load 400 on 2 processors" in row.what and "`visionops doctor` again" in row.fix
    never.set()


def test_many_that_hang_take_no_longer_than_one():
    never, begun = threading.Event(), []

    def hang() -> Finding:
        begun.append(1)
        never.wait()
        return ok("late")

    assert {row.state for row in rows([check(str(number), hang) for number in range(20)], 0.3)} == {"broken"}
    assert len(begun) == 20, "all were asked at once"
    never.set()


def test_whatever_a_check_raises_is_one_line_with_its_fix():
    def fail() -> Finding:
        raise KeyError("a line\nand another")

    (row,) = rows([check("one", fail)])
    assert (row.state, row.fix) == ("broken", "mend it")
    assert "\n" not in row.what and "a line" in row.what


def test_no_row_tells_a_secret(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LAKEFS_SECRET_ACCESS_KEY", "s3cret-word")

    def fail() -> Finding:
        raise RuntimeError("s3cret-word was refused by postgresql://ada:other-word@db/x")

    found = [*rows([check("one", fail), check("two", lambda: broken("s3cret-word", "write s3cret-word"))])]
    assert "s3cret" not in str(found) and "other-word" not in str(found) and "ada" not in str(found)
