"""What a simulated device is declared to suffer, as `WHERE:FAULT` on the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass

from resources.error_family import Invalid

# By name: an example of what follows `=`, None where nothing does, and what it means.
FAULTS: dict[str, tuple[str | None, str]] = {
    "slow": ("40", "its processor takes so many times as long"),
    "crash-after": ("20", "the process of a model dies after so many images"),
    "silent": (None, "it reports nothing"),
    "clock": ("1972", "its clock stands in that year"),
    "disk": ("1M", "so much fits on its disk"),
}
_UNITS = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}
_DECLARED = re.compile(r"(?P<where>[^:=]+):(?P<name>[^:=]+)(?:=(?P<amount>[^:=]*))?")
_YEARS = range(1971, 2200)


class FaultInvalid(Invalid, ValueError):
    """A declared fault cannot be read. Names it and what there is."""


@dataclass(frozen=True)
class Fault:
    """A fault by its name in `FAULTS`, and how much of it: a factor, a count, a year or bytes; 0 for `silent`."""

    name: str
    amount: float


def declared(text: str) -> tuple[str, Fault]:
    """The group or device, and its fault, of `line-3:slow=40`. Raises `FaultInvalid`."""
    found = _DECLARED.fullmatch(text)
    if found is None or found["name"] not in FAULTS:
        there = ", ".join(f"{name}={example}" if example else name for name, (example, _) in FAULTS.items())
        raise FaultInvalid(
            f"{text!r} is no fault such as line-3:slow=40; of a group or a device there are {there}"
        )
    name, said = found["name"], found["amount"]
    example, _ = FAULTS[name]
    if (example is None) != (said is None):
        takes = (
            f"a number: {found['where']}:{name}={example}" if example else f"none: {found['where']}:{name}"
        )
        raise FaultInvalid(f"{text!r}: {name} takes {takes}")
    return found["where"], Fault(name, 0.0 if said is None else _amount(text, name, said))


def _amount(text: str, name: str, said: str) -> float:
    units = "".join(_UNITS) if name == "disk" else ""
    found = re.fullmatch(
        rf"(\d{{1,12}}(?:\.\d{{1,6}})?)([{units}]?)" if units else r"([0-9]{1,12}(?:\.[0-9]{1,6})?)()", said
    )
    amount = float(found[1]) * _UNITS[found[2]] if found is not None else 0.0
    if name == "clock" and amount not in _YEARS:
        raise FaultInvalid(f"{text!r}: the clock stands in a year from {_YEARS[0]} to {_YEARS[-1]}")
    if amount <= 0 or (name == "crash-after" and amount != int(amount)):
        raise FaultInvalid(f"{text!r}: {said or 'nothing'} is no such number as in {name}={FAULTS[name][0]}")
    return amount
