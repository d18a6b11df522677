"""Sensors as all of them are made here, and how one says why it asks for nothing."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

# How a skipped tick with nothing to do tells itself from one that waits for somebody to mend something, and from one
# that waits because somebody wanted it so.
_WRONG, _CANCELLED = "error: ", "cancelled: "
SAID = 5


@dataclass(frozen=True)
class Wait:
    """No run now, and why; `wrong` where somebody has to mend something first, `cancelled` where a person wanted so,
    `decided` where there is nothing left to wait for."""

    reason: str
    wrong: bool = False
    cancelled: bool = False
    decided: bool = False


def owned_sensor(**options: Any) -> Callable[[Callable[..., Any]], dg.SensorDefinition]:
    """`dg.sensor` with owners, which Dagster calls a beta feature twice a sensor and load; said never."""

    def decorate(evaluate: Callable[..., Any]) -> dg.SensorDefinition:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=dg.BetaWarning)
            return dg.sensor(**options)(evaluate)

    return decorate


def waiting_for(waits: Sequence[Wait], otherwise: str) -> dg.SkipReason:
    """Why a tick asks for nothing.

    What is wrong comes first, and makes `visionops tick` end with exit code 1; then what a person cancelled.
    """
    said = sorted(waits, key=lambda wait: (not wait.wrong, not wait.cancelled))
    reason = "; ".join(wait.reason for wait in said[:SAID]) or otherwise
    first = said[0] if said else Wait(reason)
    return dg.SkipReason(f"{_WRONG if first.wrong else _CANCELLED if first.cancelled else ''}{reason}")


def skip_wrong(what: str) -> dg.SkipReason:
    """A tick that asks for nothing because something is wrong."""
    return waiting_for([Wait(what, wrong=True)], "")


def also_wrong(what: str, reason: dg.SkipReason | None) -> dg.SkipReason:
    """The reason of a tick that asks for nothing, with something that is wrong before it."""
    said = (reason.skip_message if reason is not None else None) or ""
    others = what_is_wrong(said)
    return waiting_for([Wait(what, wrong=True), *([Wait(others)] if others else [])], "")


def what_is_wrong(skip_message: str | None) -> str | None:
    """What is wrong, of a skipped tick's message; None where nothing is."""
    if skip_message is None or not skip_message.startswith(_WRONG):
        return None
    return skip_message.removeprefix(_WRONG)


def was_cancelled(skip_message: str | None) -> bool:
    """Whether a skipped tick waits for what a person cancelled."""
    return skip_message is not None and skip_message.startswith(_CANCELLED)
