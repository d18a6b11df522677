"""Checks that are made side by side, each within a time of its own; and variables of the environment as a row shows
them, with those that nothing reads.
"""

import difflib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from resources import environ
from resources.databases import DatabaseError
from resources.environ import FILE_SUFFIX
from resources.escaping import HIDDEN, is_secret, masked, without_secrets
from resources.machine_errors import in_words, machine_error
from resources.settings import VARIABLES, given, problems

State = Literal["ok", "warning", "broken"]
# What a check waits for by itself; the deadline is for what knows no limit, as a network file system.
ANSWER_SECONDS = 5
WITHIN_SECONDS = 30.0
# Processes that wait for each processor, from which on a check may be late for want of one.
_BUSY = 2.0
# All of VisionOps' own; docs/deploy.md tells of each.
KNOWN = tuple(sorted(name for name in VARIABLES if name.startswith("VISIONOPS_")))


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
            found = _unanswered(within, check.fix)
        yield Row(
            found.state,
            check.subject,
            without_secrets(check.setting),
            check.tried,
            without_secrets(found.what),
            without_secrets(found.fix),
        )


def _unanswered(within: float, fix: str) -> Finding:
    """What hangs on an idle machine is broken; on a busy one nothing is known of it."""
    what, load, processors = f"no answer within {within:g} s", os.getloadavg()[0], os.cpu_count() or 1
    if load <= _BUSY * processors:
        return broken(what, fix)
    return warning(
        f"{what}, on a machine that is busy (load {load:.0f} on {processors} processors)",
        f"`visionops doctor` again when less runs here; if it stays so: {fix}",
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


def setting(*names: str, otherwise: str) -> str:
    """Variables with their values, secrets hidden; `otherwise` says what holds where none of them is set."""
    shown = [f"{name}={_shown(name)}" for name in names if os.environ.get(name)]
    return ", ".join(shown) or f"{names[0]} is not set: {otherwise}"


def settings_checks() -> Iterator[Check]:
    """Who makes changes, the keys of a lakeFS of one's own, and variables that nobody reads."""
    yield Check(
        "actor",
        setting("VISIONOPS_ACTOR", otherwise="nobody is named"),
        "read it",
        "export VISIONOPS_ACTOR=you@example.com",
        _actor,
    )
    yield Check(
        "variables", "VISIONOPS_…", "read, and compared with those that are known", "correct it", _variables
    )
    yield Check(
        "telemetry",
        f"{len(environ.SWITCHES)} switches, from DO_NOT_TRACK on",
        "read each",
        "unset what switches it on",
        _telemetry,
    )
    if given("LAKEFS_ENDPOINT"):
        names = ("LAKEFS_ACCESS_KEY_ID", "LAKEFS_SECRET_ACCESS_KEY")
        yield Check(
            "lakeFS key", setting(*names, otherwise="no key"), "read it", f"export {names[0]}=…", _key
        )


def _shown(name: str) -> str:
    return HIDDEN if is_secret(name) else masked(os.environ[name], HIDDEN)


def _actor() -> Finding:
    actor = given("VISIONOPS_ACTOR").strip()
    if actor:
        return ok(f"changes by hand are recorded as {actor}'s")
    return warning(
        "VISIONOPS_ACTOR is not set: every change by hand is refused (approve, reject, override, promote, rollback, "
        "hold, release, retract; of `fleet` provision, move, revoke and publish)",
        "export VISIONOPS_ACTOR=you@example.com",
    )


def _variables() -> Finding:
    """What is misspelt is silently not set; what cannot be read stops whatever needs it."""
    unreadable = problems()
    if unreadable:
        return broken("; ".join(unreadable), "correct it, or unset it")
    known = set(KNOWN)
    strange = sorted(
        name
        for name in os.environ
        if name.startswith("VISIONOPS_") and name not in known and name.removesuffix(FILE_SUFFIX) not in known
    )
    if not strange:
        return ok("each that is set is read")
    fixes = []
    for name in strange:
        near = difflib.get_close_matches(name, KNOWN, n=1)
        fixes.append(f"write {near[0]} for {name}" if near else f"unset {name}")
    return warning(f"nothing reads {', '.join(strange)}", "; ".join(fixes))


def _telemetry() -> Finding:
    left = environ.telemetry_left_on()
    if left:
        set_to = ", ".join(f"{name}={os.environ[name]}" for name in left)
        return warning(f"somebody may be told of this machine: {set_to}", f"unset {' '.join(left)}")
    return ok("nothing phones home")


def _key() -> Finding:
    wanted = ("LAKEFS_ACCESS_KEY_ID", "LAKEFS_SECRET_ACCESS_KEY")
    missing = [name for name in wanted if not given(name)]
    if missing:
        return broken(f"{' and '.join(missing)} not set", f"export {missing[0]}=…")
    return ok("both halves are set")
