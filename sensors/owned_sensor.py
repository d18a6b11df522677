"""Sensors as all of them are made here, and how one says why it asks for nothing."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

# How a skipped tick with nothing to do tells itself from one that waits for somebody to mend something.
_WRONG = "error: "
SAID = 5


@dataclass(frozen=True)
class Wait:
    """No run now, and why; `wrong` where somebody has to mend something first."""

    reason: str
    wrong: bool = False


def owned_sensor(**options: Any) -> Callable[[Callable[..., Any]], dg.SensorDefinition]:
    """`dg.sensor` with owners, which Dagster calls a beta feature twice a sensor and load; said never."""

    def decorate(evaluate: Callable[..., Any]) -> dg.SensorDefinition:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=dg.BetaWarning)
            return dg.sensor(**options)(evaluate)

    return decorate


def waiting_for(waits: Sequence[Wait], otherwise: str) -> dg.SkipReason:
    """Why a tick asks for nothing: what is wrong comes first, and makes `visionops tick` end with exit code 1."""
    said = sorted(waits, key=lambda wait: not wait.wrong)
    reason = "; ".join(wait.reason for wait in said[:SAID]) or otherwise
    return dg.SkipReason(f"{_WRONG}{reason}" if said and said[0].wrong else reason)


def skip_wrong(what: str) -> dg.SkipReason:
    """A tick that asks for nothing because something is wrong."""
    return waiting_for([Wait(what, wrong=True)], "")


def what_is_wrong(skip_message: str | None) -> str | None:
    """What is wrong, of a skipped tick's message; None where nothing is."""
    if skip_message is None or not skip_message.startswith(_WRONG):
        return None
    return skip_message.removeprefix(_WRONG)
