"""`visionops demo`: the whole loop on real images, commit by commit, then day by day, through the real sensors."""

import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from resources import home
from resources.error_family import Unavailable
from resources.models.records import EVERYWHERE
from visionops import interruption

if TYPE_CHECKING:
    import dagster as dg

    from visionops.demo.demo_fleet import ByHand
    from visionops.tick import Tick
    from visionops_assets.config.project import Project
    from visionops_assets.dataset.batch_publishing import Publisher

PROJECT = "digits"
# The collector takes rows that are no older.
MOST_DAYS = 30
# Three on each of three lines.
DEVICES, MOST_DEVICES = 9, 30


@dataclass(frozen=True)
class Account:
    """What happened to one weekly batch, as `demo.json` lists it."""

    batch: str
    commit: str
    partition: str
    verdict: str
    reasons: list[str]
    champion_version: int | None
    seconds: float


def demo_command(
    days: Annotated[
        int, typer.Option(min=0, max=MOST_DAYS, help="Production days after the promotion; 0: none.")
    ] = MOST_DAYS,
    fleet: Annotated[
        int,
        typer.Option(
            min=0,
            max=MOST_DEVICES,
            help="Simulated devices that take what is promoted in waves, on three lines; 0: none.",
        ),
    ] = DEVICES,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the account of the weeks (demo.json) instead of the story.")
    ] = False,
) -> None:
    """Write real digit images in weekly batches, commit each, and let the sensors do the rest.

    A first champion, a good week that is promoted, and a poisoned week that is refused with the reason. Devices take
    what is promoted, in waves; one is killed while it does and goes on, a line whose hardware is too slow refuses it,
    and a rollback reaches them all. Then a month in
    production, up to yesterday: quiet days, a camera that blurs and darkens, other digits than before. Running it
    again is safe: what is committed, decided and logged stays.
    """
    import definitions
    from visionops import services
    from visionops.demo.demo_fleet import DemoFleet, repository_made
    from visionops.demo.digits import WEEKS, write_weeks
    from visionops.demo.month import live_days
    from visionops.terminal import shown_progress
    from visionops.tick import tick
    from visionops_assets.dataset.batch_publishing import Publisher

    interruption.keep(
        "what is committed, decided and logged is kept, and a training up to its last checkpoint"
    )
    say: Callable[[str], None] = (lambda text: None) if as_json else typer.echo
    project = _project()
    started = time.perf_counter()
    folders = write_weeks(home.home() / "demo")
    say(f"VisionOps demo: {sum(week.images for week in WEEKS)} real images in {len(WEEKS)} weekly batches")
    publisher = Publisher(project, services.lakefs(), services.artifacts())
    accounts = []
    repository_made(project)
    if fleet and "://" in home.edge():
        say(f"no devices: they read the repository as a folder, and it lies in {home.edge()}")
        fleet = 0
    account_of_devices = home.home() / "demo-fleet.json"
    with services.dagster() as instance, DemoFleet(project, fleet, account_of_devices, say) as devices:
        hand = by_hand(definitions.defs, instance, project)
        for week, folder in zip(WEEKS, folders, strict=True):
            say(f"\n{week.batch}, {week.story}: {week.images} images")
            begun = time.perf_counter()
            published = publisher.publish(folder, week.batch)
            imported = time.perf_counter() - begun
            said = "published on" if published.outcome == "published" else "was already on"
            say(f"  {said} main of lakeFS ({imported:.1f} s); the commit sensor looks")
            with devices.one_is_killed("killed", hand) if week is WEEKS[1] else nullcontext():
                with shown_progress(not as_json):
                    ticks = tick(definitions.defs, instance, [project], wait=True)
                account = _account(publisher, week.batch, time.perf_counter() - begun)
                accounts.append(account)
                # Days of an earlier demo may still have waited.
                found = next(
                    (each for each in ticks if each.partition in (account.partition, None)), ticks[0]
                )
                say(f"  {_seen(found)}")
                running_now = (
                    f"version {account.champion_version}" if account.champion_version else "no model"
                )
                say(f"  in production: {running_now}")
            if week is WEEKS[0]:
                devices.takes("first")
        devices.rolled_back(hand)
    # The devices are ended: what they report in the month would be one more day to look at, again and again.
    with services.dagster() as instance:
        path = home.home() / "demo.json"
        part = path.with_name(f"{path.name}.part")
        part.write_text(json.dumps([asdict(account) for account in accounts], indent=1))
        part.replace(path)
        say(f"\n{len(accounts)} commits in {time.perf_counter() - started:.0f} s. The account: {path}")
        if days and accounts[-1].champion_version is None:
            say("Nothing is in production, so there are no days to tell of.")
        elif days:
            begun = time.perf_counter()
            month = home.home() / "demo-days.json"
            lived = live_days(definitions.defs, instance, project, days, month, say)
            say(f"\n{len(lived)} days in {time.perf_counter() - begun:.0f} s. The account: {month}")
    if as_json:
        typer.echo(path.read_text())
        return
    say("Look at it: `make dev` opens the Dagster UI (http://127.0.0.1:3000), MLflow and lakeFS together.")
    say(
        f"`visionops why {PROJECT}` says why the champion runs, `visionops status {PROJECT}` how it came there."
    )
    if shutil.which("visionops") is None:
        say(
            f"`. {shlex.quote(f'{sys.prefix}/bin/activate')}`, once in a terminal, puts `visionops` on its PATH."
        )


def by_hand(defs: "dg.Definitions", instance: "dg.DagsterInstance", project: "Project") -> "ByHand":
    """What the demo's drill does as a person would, by the commands of a project."""
    from visionops import services
    from visionops.cli.promotion import carry_out, named_or_only_verdict
    from visionops.cli.rollback import tell_production
    from visionops.demo.demo_fleet import ByHand
    from visionops.tick import tick_delivery, tick_production
    from visionops_assets.common import run_tags

    name, registry = project.project, services.registry()

    def promote(verdict: str) -> None:
        carry_out(registry, defs, instance, name, named_or_only_verdict(registry, name, verdict))

    def deliver() -> None:
        for found in tick_delivery(defs, instance, project):
            if found.outcome == run_tags.ERROR:
                raise Unavailable(f"{found.reason}; `visionops demo` goes on from there")

    return ByHand(
        promote,
        deliver,
        lambda: tell_production(name, EVERYWHERE),
        lambda: tick_production(defs, instance, project),
    )


def _seen(found: "Tick") -> str:
    """What the sensor made of a week, as `tick` says it."""
    from visionops_assets.shells.run_outcomes import outcome_in_words

    return f"{outcome_in_words(found.outcome or 'nothing to do', found.reason)} ({found.seconds:.1f} s)"


def _project() -> "Project":
    """The demo's project. Raises `ProjectError` naming where its file is, where project files are read elsewhere."""
    from visionops import services
    from visionops_assets.config.project import ProjectError

    shipped, folder = home.ROOT / "projects" / f"{PROJECT}.yaml", home.projects_folder()
    missing = not any((folder / f"{PROJECT}{suffix}").exists() for suffix in (".yaml", ".yml"))
    if missing and shipped.is_file() and folder != shipped.parent:
        place = shlex.quote(str(folder))
        raise ProjectError(
            f"the demo's project, {PROJECT}, is not in {folder}, where VISIONOPS_PROJECTS has project files read: "
            f"`mkdir -p {place} && cp {shlex.quote(str(shipped))} {place}/`, or leave VISIONOPS_PROJECTS unset"
        )
    return services.project(PROJECT)


def _account(publisher: "Publisher", batch: str, seconds: float) -> Account:
    """What is stored of a batch, so that a second run tells the same story as the first."""
    from visionops import services
    from visionops_assets.common.keys import dataset_version
    from visionops_assets.evaluation.verdict_store import find, read_address

    project, registry = publisher.project, services.registry()
    log = publisher.lakefs.log(project.repository)
    commit = next(commit for commit in log if commit.metadata.get("visionops.batch") == batch)
    partition = dataset_version(commit.id, commit.created_at)
    address = read_address(publisher.artifacts, "decision", project.project, partition)
    verdict = None
    if address is not None:
        verdict = find(registry, project.project, address.run_id, address.identity, "decision")
    if verdict is None:
        return Account(batch, commit.id, partition, "NONE", ["no decision is stored"], None, seconds)
    champion = verdict.champion.version if verdict.champion is not None else None
    if verdict.verdict == "PASS":
        versions = registry.models.versions(project.project)
        promoted = [one for one in versions if one.weights_sha256 == verdict.challenger.weights_sha256]
        champion = promoted[-1].version if promoted else champion
    reasons = [reason.text for reason in verdict.reasons]
    return Account(batch, commit.id, partition, verdict.verdict, reasons, champion, round(seconds, 2))
