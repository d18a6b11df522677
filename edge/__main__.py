"""`visionops-edge run | once | status`: the agent of one device."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge import __version__, machine

if TYPE_CHECKING:
    from edge.device import Device

_FOLDER = "VISIONOPS_EDGE_DEVICE"


def main(arguments: list[str] | None = None) -> None:
    """One command; an error is one line."""
    parser = argparse.ArgumentParser(prog="visionops-edge", description="The VisionOps agent of one device.")
    parser.add_argument("--version", action="version", version=f"visionops-edge {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="run | once | status")
    for name, said in (
        ("run", "keep the model current and answer images until a signal"),
        ("once", "look, update, answer what waits, report, and end; exit code 1 where something is wrong"),
        ("status", "show what the device runs, tries and refuses"),
    ):
        command = commands.add_parser(name, help=said, description=said)
        command.add_argument(
            "--device",
            type=Path,
            default=Path(os.environ.get(_FOLDER, "/etc/visionops-edge")),
            metavar="FOLDER",
            help=f"the folder that `visionops fleet provision` made; by default {_FOLDER}, or /etc/visionops-edge",
        )
        command.add_argument(
            "--state", metavar="FOLDER", help="where its models are kept; by default in its folder"
        )
        if name == "status":
            command.add_argument("--json", action="store_true", help="print as JSON")
    asked = parser.parse_args(arguments)
    try:
        sys.exit({"run": _run, "once": _once, "status": _status}[asked.command](asked))
    except Exception as error:
        if asked.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _run(asked: argparse.Namespace) -> int:
    from edge.device import Device

    _refuse_other_machines()
    device = Device.open(asked.device, asked.state)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: device.stop())
    device.run(say=lambda said: print(said, flush=True))
    return 0


def _once(asked: argparse.Namespace) -> int:
    from edge.device import Device

    _refuse_other_machines()
    device = Device.open(asked.device, asked.state)
    try:
        fine = device.once()
        print("\n".join([*_in_words(device.agent.status()), f"  answered   {_answered(device)}"]))
    finally:
        device.close()
    return 0 if fine else 1


def _answered(device: Device) -> str:
    """How many images a device answered since it was opened, and by what."""
    if device.settings.source is None:
        return "no image: device.json names no `source`"
    told = [f"{count} by {model}" for model, count in device.answered.items()]
    if device.unanswered:
        told.append(f"{device.unanswered} could not be: the sink says why")
    return "images: " + ", ".join(told) if told else "no image: none waited"


def _status(asked: argparse.Namespace) -> int:
    from edge.agent import STATUS
    from edge.files import named_path
    from edge.settings import Settings

    settings = Settings.read(named_path(asked.device).absolute())
    state = named_path(asked.state) if asked.state else settings.path(settings.state)
    try:
        found = json.loads((state / STATUS).read_text())
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{state}: no agent ran here yet; `visionops-edge once` does. One that was given --state is asked with it"
        ) from None
    print(json.dumps(found, indent=1) if asked.json else "\n".join(_in_words(found)))
    return 0


def _refuse_other_machines() -> None:
    why = machine.unsupported()
    if why is not None:
        raise RuntimeError(why)


def _in_words(status: dict[str, Any]) -> list[str]:
    def named(bundle: dict[str, Any] | None) -> str:
        if not bundle:
            return "none"
        version = f"version {bundle['version']}, " if bundle.get("version") is not None else ""
        return f"{version}release {bundle['release']} ({bundle['bundle'][:12]})"

    told = [
        f"{status['device']}, group {status['group']}: {status['phase']}",
        f"  answers    {named(status['serving'])}",
        f"  before it  {named(status['good' if status['phase'] == 'TRIAL' else 'previous'])}",
    ]
    if status["candidate"] and status["phase"] != "TRIAL":
        told.append(f"  tries      {named(status['candidate'])}")
    told += [f"  refused    {bundle[:12]}: {why}" for bundle, why in status["quarantine"].items()]
    if status["waiting_events"] or status["dropped_events"]:
        told.append(f"  to report  {status['waiting_events']} events, {status['dropped_events']} dropped")
    if status.get("waiting_reports") or status.get("dropped_reports"):
        told.append(f"  reports    {status['waiting_reports']} wait, {status['dropped_reports']} dropped")
    if status["problem"]:
        told.append(f"  problem    {status['problem']}")
    return told


if __name__ == "__main__":
    main()
