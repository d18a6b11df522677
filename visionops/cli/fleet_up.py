"""`visionops fleet up`: simulated devices on this machine, until interrupted."""

import shlex
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visionops import interruption
from visionops.simulation.declared_faults import FAULTS

if TYPE_CHECKING:
    from visionops.simulation.declared_faults import Fault
    from visionops_assets.config.project import Project

LOOK_EVERY_SECONDS = 0.5
MOST_DEVICES = 200
_FAULT_HELP = (
    "What a group or a device suffers, as WHERE:FAULT; several times. "
    + "; ".join(
        f"{name}={example}: {said}" if example else f"{name}: {said}"
        for name, (example, said) in FAULTS.items()
    )
    + "."
)


def fleet_up_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    devices: Annotated[
        int, typer.Option(min=1, max=MOST_DEVICES, help="How many, spread evenly over the groups.")
    ] = 6,
    group: Annotated[
        list[str] | None,
        typer.Option(
            help="Device group, such as line-1; several times. By default all that the project has."
        ),
    ] = None,
    every: Annotated[
        float, typer.Option(min=0.01, max=3600, help="Seconds between two images of a device.")
    ] = 1.0,
    fault: Annotated[
        list[str] | None, typer.Option(metavar="WHERE:FAULT", help=_FAULT_HELP, show_default=False)
    ] = None,
) -> None:
    """Run simulated devices here until Ctrl-C: for desks, demonstrations and tests.

    Real agents, each in a process of its own that may be killed and is started again, follow the project's repository
    and answer images of its newest dataset version, but for its holdout. What they report counts as that of any
    device. They keep what they have: the same command goes on with them.
    """
    from visionops import services
    from visionops.child_process import children
    from visionops.simulation import device_processes
    from visionops.simulation.declared_faults import declared
    from visionops.simulation.provisioned_devices import folder_of, names, provisioned, require_folder

    interruption.keep("the devices keep what they have")
    require_folder()
    faults = [declared(each) for each in fault or ()]
    found = services.project(project)
    by_group = names(_groups(found, group or ()), devices)
    _require_budgets(found, by_group, faults)
    simulated = provisioned(found, by_group, every=every, faults=faults, who=services.actor())
    folder = folder_of(project)
    # What an earlier fleet left is none of this one's.
    (folder / device_processes.PROCESSES).unlink(missing_ok=True)
    config = device_processes.configuration(folder, simulated)
    with children() as started:
        started.start("simulated devices", device_processes.command(config), folder / "fleet.log", {})
        shown = len(simulated[0].images)
        typer.echo(
            f"{project}: {len(simulated)} simulated devices in {', '.join(by_group)}, {shown} images of {project} in "
            f"turn, one every {every:g} s; their folders: {folder}"
        )
        for where, each in faults:
            typer.echo(f"{where} suffers {each.name}{f' {each.amount:g}' if each.amount else ''}")
        typer.echo(
            f"`visionops fleet status {shlex.quote(project)}` shows them once their reports are collected, by "
            f"`visionops up` or `visionops tick {shlex.quote(project)}`; Ctrl-C stops them."
        )
        for said in changes(folder, by_group):
            typer.echo(said)
            started.check()


def changes(folder: Path, by_group: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What becomes of the devices, in words, as it happens, for ever."""
    from visionops.simulation.device_processes import processes, status_of

    told: dict[str, str] = {}
    ended: dict[str, int] = {}
    while True:
        running = processes(folder)
        for device, process in running.items():
            deaths = process["starts"] - (process["pid"] is not None)
            if deaths > ended.get(device, 0):
                ended[device] = deaths
                log = folder / device / "agent.log"
                yield f"{device} ended with {process['ended']} and is started again; its log: {log}"
        for group, devices in by_group.items():
            said = _in_words([status_of(folder / device) for device in devices])
            if told.get(group) != said:
                told[group] = said
                yield f"{group}: {said}"
        time.sleep(LOOK_EVERY_SECONDS)


def _groups(project: "Project", asked: Sequence[str]) -> list[str]:
    """The groups asked for, by default all that are declared or published to. Raises `NotFound` where there is none."""
    from resources.error_family import NotFound
    from resources.nearest import there_are
    from visionops.edge_repository import published

    known = sorted({*project.delivery.groups, *published(project.delivered_as).read().groups})
    for group in asked:
        if group not in known:
            raise NotFound(f"{project.project} has no device group {group}; {there_are(group, known)}")
    found = list(dict.fromkeys(asked)) or known
    if not found:
        raise NotFound(
            f"{project.project} has no device group: name one in `delivery.groups` of its project file, or "
            f"`visionops fleet publish {project.project} --group line-1` makes one"
        )
    return found


def _require_budgets(
    project: "Project", by_group: Mapping[str, Sequence[str]], faults: Sequence[tuple[str, "Fault"]]
) -> None:
    """Raise `Invalid` for a slow processor where no budget says what is too slow: nothing would come of it."""
    from resources.error_family import Invalid
    from visionops.edge_repository import published

    running = published(project.delivered_as).running()
    for group, devices in by_group.items():
        declared = project.delivery.groups.get(group)
        signed = running[group][1]["budget"] if group in running else {}
        if "cpu_ms" in signed or (declared is not None and declared.budget.cpu_ms is not None):
            continue
        for where, fault in faults:
            if fault.name == "slow" and where in (group, *devices):
                how = (
                    f"`budget: {{cpu_ms: 20}}` of {group} in `delivery.groups` of its project file does"
                    if declared is not None
                    else f"`visionops fleet publish {project.project} --group {group} --cpu-ms 20 --anew` does"
                )
                raise Invalid(
                    f"{where}:slow changes nothing: no budget of {group} says what is too slow; {how}"
                )


def _in_words(devices: Sequence[Mapping[str, Any]]) -> str:
    """What the devices of a group run and try, and what is wrong with them, the most frequent first."""
    said: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for status in devices:
        serving, candidate = status.get("serving"), status.get("candidate")
        if not status:
            said["starting"] += 1
        elif serving is None:
            said["without a model yet"] += 1
        elif status["phase"] == "TRIAL":
            said[f"trying release {serving['release']}"] += 1
        elif candidate is not None:
            said[f"on release {serving['release']}, taking release {candidate['release']}"] += 1
        else:
            said[f"on release {serving['release']}"] += 1
        if status.get("problem"):
            wrong[status["problem"]] += 1
        for why in status.get("quarantine", {}).values():
            wrong[f"refused a bundle: {why}"] += 1
    told = ", ".join(f"{number} {what}" for what, number in said.most_common())
    return told + "".join(f"; {number}: {what}" for what, number in wrong.most_common())
