"""Checks that are made side by side, each within a time of its own."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from resources.databases import DatabaseError
from resources.machine_errors import in_words, machine_error
from resources.masking import without_secrets

State = Literal["ok", "warning", "broken"]
# What a check waits for by itself; the deadline is for what knows no limit, as a network file system.
ANSWER_SECONDS = 5
WITHIN_SECONDS = 30.0


@dataclass(frozen=True)
class Finding:
    """What trying showed. `fix` says what to do about it, where it is not ok."""

    state: State
    what: str
    fix: str = ""


@dataclass(frozen=True)
class Check:
    """One thing to try. `fix` is what to do where it raises, or does not answer in time."""

    subject: str
    setting: str
    tried: str
    fix: str
    look: Callable[[], Finding]


@dataclass(frozen=True)
class Row:
    """One thing that was tried, and what that showed; no secret is in it."""

    state: State
    subject: str
    setting: str
    tried: str
    what: str
    fix: str


def ok(what: str) -> Finding:
    """It works."""
    return Finding("ok", what)


def warning(what: str, fix: str) -> Finding:
    """It works, and there is something to know."""
    return Finding("warning", what, fix)


def broken(what: str, fix: str) -> Finding:
    """It does not work."""
    return Finding("broken", what, fix)


def rows(checks: Iterable[Check], within: float = WITHIN_SECONDS) -> Iterator[Row]:
    """Make all checks at once; a row for each, in their order, and all of them after `within` seconds at the latest.

    One that hangs is broken, and is left behind in a thread that no exit waits for.
    """
    deadline = time.monotonic() + within
    asked = [(check, _in_thread(check)) for check in checks]
    for check, answer in asked:
        try:
            found = answer.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            found = broken(f"no answer within {within:g} s", check.fix)
        yield Row(
            found.state,
            check.subject,
            without_secrets(check.setting),
            check.tried,
            without_secrets(found.what),
            without_secrets(found.fix),
        )


def _raised(error: Exception, otherwise: str) -> Finding:
    """What an error says; of one that the machine made, what mends it."""
    said = in_words(error)
    if said == machine_error(error):
        what, separator, fix = said.partition(": ")
        return broken(what, fix if separator else otherwise)
    return broken(" ".join(said.split()), otherwise)


def _in_thread(check: Check) -> "queue.SimpleQueue[Finding]":
    answer: queue.SimpleQueue[Finding] = queue.SimpleQueue()

    def look() -> None:
        try:
            answer.put(check.look())
        except DatabaseError as error:
            answer.put(broken(error.what, error.fix))
        # Whatever lies behind a setting decides what it raises.
        except Exception as error:
            answer.put(_raised(error, check.fix))

    threading.Thread(target=look, name=f"doctor: {check.subject}", daemon=True).start()
    return answer
