"""What this machine is: whether it can run a bundle, and whether its clock is known to be right."""

from __future__ import annotations

import ctypes
import platform
import re
import sys
from collections.abc import Mapping
from datetime import datetime, time, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

MACHINES = ("x86_64", "aarch64")
# From which ONNX Runtime on an opset, and an IR version, can be read.
RUNTIME_OF_OPSET = {17: "1.12", 18: "1.14", 19: "1.15", 20: "1.17", 21: "1.18", 22: "1.21", 23: "1.22"}
RUNTIME_OF_IR = {8: "1.11", 9: "1.15", 10: "1.18", 11: "1.22"}
# One for other providers takes the place of the plain one.
_RUNTIMES = ("onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TABLES = {"opset": RUNTIME_OF_OPSET, "ir": RUNTIME_OF_IR}


def facts() -> dict[str, Any]:
    """What `requires` of a bundle is held against."""
    return {
        "onnxruntime": _onnxruntime(),
        "machine": platform.machine(),
        "memory_mb": _memory_mb(),
        "providers": ["CPUExecutionProvider"],
        "python": platform.python_version(),
    }


def engine_identity() -> str:
    """What a compiled model depends on beside its provider: this machine, its runtime and its GPU's driver."""
    parts = [platform.machine(), _onnxruntime()]
    for file in ("/etc/machine-id", "/proc/driver/nvidia/version"):
        try:
            parts.append(Path(file).read_text(errors="replace").strip())
        except OSError:
            parts.append("")
    return "\n".join(parts)


def unsupported() -> str | None:
    """Why no agent runs here, or None."""
    if sys.platform != "linux" or platform.machine() not in MACHINES or platform.libc_ver()[0] != "glibc":
        return (
            f"visionops-edge runs on Linux with glibc, on {' or '.join(MACHINES)}; this is {sys.platform} on "
            f"{platform.machine()}"
        )
    return None


def unmet(requires: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """Why this machine cannot run a bundle, before a byte of it is fetched; None if it can."""
    runtime = str(here["onnxruntime"])
    needed = [str(requires.get("onnxruntime", "0"))]
    needed += [table[requires[name]] for name, table in _TABLES.items() if requires.get(name) in table]
    most = max(needed, key=_version)
    if _version(runtime) < _version(most):
        return f"needs ONNX Runtime {most}, this is {runtime}: pip install -U onnxruntime"
    machines = requires.get("machine") or MACHINES
    if here["machine"] not in machines:
        return f"is for {' or '.join(machines)}, this is {here['machine']}"
    memory = float(requires.get("memory_mb", 0))
    if here["memory_mb"] and memory > here["memory_mb"]:
        return f"needs {memory:.0f} MB of memory, this machine has {here['memory_mb']:.0f}"
    missing = sorted(set(requires.get("providers") or ()) - set(here["providers"]))
    if missing:
        return f"needs {', '.join(missing)} of ONNX Runtime, which this machine lacks"
    return None


def clock_is_synchronised() -> bool:
    """Whether the kernel was told that the clock is right; False where it cannot be asked."""
    try:
        return bool(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)) in range(5))
    except (OSError, AttributeError):
        return False


def in_window(window: Mapping[str, Any] | None, now: datetime) -> bool:
    """Whether what answers may change now: `{"from": "22:00", "to": "05:00", "zone": "Europe/Berlin", "days": […]}`.

    Days are those on which a window begins. Raises ValueError for one that cannot be read.
    """
    if window is None:
        return True
    zone, days = str(window.get("zone", "UTC")), window.get("days", _DAYS)
    try:
        here = now.astimezone(ZoneInfo(zone))
    except (ValueError, OSError, ZoneInfoNotFoundError) as error:
        raise ValueError(
            f"the zone of an update window, {zone!r}, is none that this machine knows, such as Europe/Berlin"
        ) from error
    first, last = _time_of_day(window, "from"), _time_of_day(window, "to")
    try:
        days = [_DAYS.index(day) for day in days]
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"the days of an update window, {days!r}, are not some of {', '.join(_DAYS)}"
        ) from error
    today, at = here.weekday(), here.time().replace(tzinfo=None)
    if first <= last:
        return first <= at < last and today in days
    if at >= first:
        return today in days
    return at < last and (here - timedelta(days=1)).weekday() in days


def _time_of_day(window: Mapping[str, Any], name: str) -> time:
    said = window.get(name, "")
    try:
        found = time.fromisoformat(said)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"`{name}` of an update window is {said!r}, which is no hour such as 22:00"
        ) from error
    if found.tzinfo is not None:
        raise ValueError(
            f"`{name}` of an update window is {said!r}: its zone stands apart, such as Europe/Berlin"
        )
    return found


def _onnxruntime() -> str:
    """The version of ONNX Runtime, which is distributed by several names."""
    for name in _RUNTIMES:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "0"


def _memory_mb() -> float:
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemTotal"].split()[0]) / 1024
    except (OSError, KeyError, ValueError):
        return 0.0


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])
