"""`visionops fleet`: keys, devices, and what each group of them runs."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.files import named_path
from edge.formats import check_group
from resources import home
from resources.error_family import Invalid, NotFound
from visionops import edge_repository
from visionops.cli import devices, fleet_status, fleet_up
from visionops.edge_repository import changing, projects_with_repository

if TYPE_CHECKING:
    from visionops_assets.delivery.publishing import Publication

fleet_app = typer.Typer(help="Devices: keys, provisioning, and what each group runs.", no_args_is_help=True)
fleet_app.add_typer(edge_repository.keys_app, name="keys")
fleet_app.command("up")(fleet_up.fleet_up_command)
fleet_app.command("status")(fleet_status.fleet_status_command)
fleet_app.command("provision")(devices.provision_command)
fleet_app.command("move")(devices.move_command)
fleet_app.command("revoke")(devices.revoke_command)
fleet_app.command("remove-group")(devices.remove_group_command)

ProjectName = Annotated[str, typer.Argument(help="Name of the project.")]
GroupName = Annotated[str, typer.Option(help="Device group, such as line-1.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


@fleet_app.command("publish")
def publish(
    project: ProjectName,
    group: GroupName,
    version: Annotated[
        int | None,
        typer.Option(
            "--model-version",
            metavar="N",
            help="A version that was in production; by default what is on the group.",
        ),
    ] = None,
    golden: Annotated[
        list[Path] | None,
        typer.Option(
            help="Image to test the model with on devices; several times. Default: validation images."
        ),
    ] = None,
    cpu_ms: Annotated[
        float | None, typer.Option(min=0, help="The most processor time an image may take on a device.")
    ] = None,
    memory_mb: Annotated[
        float | None, typer.Option(min=1, help="The most memory the model's process may take on a device.")
    ] = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROVIDER=X",
            help="The most an answer may differ by a provider of devices, such as TensorrtExecutionProvider=0.01; "
            "several times. Default: 0.001.",
            show_default=False,
        ),
    ] = None,
    observe: Annotated[
        int | None, typer.Option(min=1, help="Right answers until a device keeps the model; by default 200.")
    ] = None,
    poll_every: Annotated[
        float | None,
        typer.Option(min=1, max=86400, help="Seconds between two looks of a device; by default 300."),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            help='When devices may change models: "22:00-05:00 Europe/Berlin"; "always" lifts it.',
            show_default=False,
        ),
    ] = None,
    max_kbps: Annotated[
        float | None, typer.Option(min=1, help="The most a device downloads, in kbit/s.")
    ] = None,
    floor: Annotated[
        int | None, typer.Option(min=0, help="The lowest release that devices of the group take from now on.")
    ] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="As a new release, for a model that lies below the floor.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Let all devices of a group run a version: signed, tried on each device, kept or left by each for itself.

    A version that was shipped before takes no signature of an approver: that is the way back.
    """

    from resources.models.records import version_on
    from visionops import services
    from visionops.edge_repository import published
    from visionops_assets.champions.disagreements import require_agreement
    from visionops_assets.champions.history import nothing_runs
    from visionops_assets.config.device_group_rules import what_is_logged
    from visionops_assets.delivery.bundle_making import golden_by_provider, images_of_files
    from visionops_assets.delivery.following import Shipping, standings, ways_to_change
    from visionops_assets.delivery.publishing import WantedBundle
    from visionops_assets.delivery.publishing import publish as publish_model
    from visionops_assets.promotion.production_change import require_arrived

    budget = {
        name: value for name, value in {"cpu_ms": cpu_ms, "memory_mb": memory_mb}.items() if value is not None
    }
    tolerances = dict(_tolerance(each) for each in tolerance or ())
    asked = {"budget": budget, "golden": golden_by_provider(tolerances)}
    found, registry = services.project(project), services.registry()
    services.actor()
    model = registry.models.get(project)
    if group in found.delivery.groups:
        (now,) = (
            each for each in standings(found, registry, published(found.delivered_as)) if each.group == group
        )
        due = f"; `visionops tick {project}` publishes it" if now.due else ""
        ways = ways_to_change(model, group, found.delivery.groups[group])
        raise Invalid(
            f"{group} of {project} follows what is promoted (delivery.groups of its project file), so nothing needs "
            f"publishing: {now.sentence()}{due}{'; ' if ways else ''}{ways}"
        )
    if version is None:
        require_agreement(registry, model, group)
    number = version if version is not None else version_on(model, group)
    if number is None:
        raise NotFound(nothing_runs(model, group))
    if version is not None:
        require_arrived(model, version)
    record = registry.models.version(project, number)
    shipping = Shipping(found, registry, services.lakefs(), services.artifacts(), home.cache() / "samples")

    def make(release: int) -> tuple[dict[str, Any], dict[str, bytes]]:
        images = images_of_files(golden, shipping.file(record)) if golden else None
        return shipping.bundle(record, release, budget=budget, tolerances=tolerances, images=images)

    options = {
        "observe": {"frames": observe, "seconds": 86400} if observe is not None else None,
        "poll_every": poll_every,
        "window": _window(window) if window is not None else None,
        "max_kbps": max_kbps,
        "log": what_is_logged(found.production.captures),
    }
    with changing(project) as repository:
        services.check_new_group(found, registry, check_group(group), repository.read().groups)
        if repository.add_group(group):
            typer.echo(f"{project}: group {group} is new", err=True)
        newest = repository.next_release()
        done = publish_model(
            repository,
            group,
            WantedBundle(record.onnx_sha256, make, asked, anew=anew),
            options,
            floor=floor,
        )
        renewed = repository.refresh() if not done.changed else []
        # Also one that waits for approvers is made.
        made = repository.next_release() > newest
    if golden and not made:
        typer.echo(
            f"release {done.release} keeps the images it was signed with; --anew ships it with those of --golden",
            err=True,
        )
    _tell_published(project, number, done, renewed, as_json)


@fleet_app.command("refresh")
def refresh(
    projects: Annotated[
        list[str] | None, typer.Argument(help="By default all that have a repository.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sign anew what has less than half of its life left: for cron, once a day. Devices say `expired` without it.

    Tells of what has to be signed with keys that are elsewhere, 90 days before it ends; ends with exit code 1 in its
    last 7 days.
    """
    now, urgent = datetime.now(UTC), False
    refreshed, found = [], projects or projects_with_repository()
    if not found:
        typer.echo(
            "no project has a repository for devices: `visionops fleet keys init PROJECT` makes one", err=True
        )
    for project in found:
        with changing(project) as repository:
            renewed = repository.refresh()
            ends = repository.read().expiries()
        refreshed.append(
            {
                "project": project,
                "signed": renewed,
                "expires": {role: end.isoformat() for role, end in ends.items()},
            }
        )
        typer.echo(
            f"{project}: {'signed anew: ' + ', '.join(renewed) if renewed else 'nothing is old'}", err=as_json
        )
        for role, end in ends.items():
            said, now_or_never = edge_repository.ending_of_role(project, role, end, now)
            urgent |= now_or_never
            if said:
                typer.echo(f"{project}: {said}", err=True)
    if as_json:
        typer.echo(json.dumps({"projects": refreshed, "urgent": urgent}, indent=1))
    if urgent:
        raise typer.Exit(1)


@fleet_app.command("serve")
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8070,
) -> None:
    """Serve the repositories as static files with Range: for desks and tests. A bucket or nginx does it elsewhere."""
    from visionops.edge_repository import EdgeFiles, repositories
    from visionops.serving.prediction_server import PredictionServer

    if "://" in home.edge():
        raise Invalid(f"the repositories lie in {home.edge()}, which serves them itself")
    root = Path(home.edge())
    server = PredictionServer(EdgeFiles(root), host, port)
    there = ", ".join(f"{server.address}/{project}" for project in repositories(root))
    server.run(lambda: typer.echo(f"devices find {there or 'nothing yet'}; Ctrl-C stops it"))


@fleet_app.command("export")
def export(
    project: ProjectName,
    to: Annotated[
        Path,
        typer.Option(
            "--to", metavar="DIR", help="A folder, such as a stick's; an earlier export is updated."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Write all that devices fetch to a folder, for a site without a network.

    There `repository` of device.json is DIR/PROJECT.
    """
    from resources.storage import ArtifactStore

    folder = named_path(to).absolute()
    above = next(each for each in (folder, *folder.parents) if each.exists())
    if not above.is_dir():
        raise NotADirectoryError(f"{above} is a file: name a folder with --to")
    with changing(project) as repository:
        files = repository.export(ArtifactStore(root=str(folder)))
    if as_json:
        where = str(folder / repository.project)
        typer.echo(json.dumps({"project": project, "folder": where, "written": files}, indent=1))
        return
    typer.echo(
        f"{project}: {files} files written to {to / repository.project}; what was there already is left as it is"
    )


def _tell_published(
    project: str, version: int, done: "Publication", renewed: list[str], as_json: bool
) -> None:
    if as_json:
        from dataclasses import asdict

        typer.echo(json.dumps({"project": project, "version": version, **asdict(done)}, indent=1))
        return
    what = f"version {version} of {project} as release {done.release}"
    if done.waits is not None:
        typer.echo(
            f"{what} waits: {done.waits}. Each signs with `visionops rollout sign {project} --key ADDRESS`;"
        )
        typer.echo("then this command again assigns it")
    elif done.changed:
        typer.echo(
            f"{what} is assigned to {done.group} (serial {done.serial}); devices take it at their next look"
        )
    else:
        typer.echo(f"{what} is what {done.group} runs already (serial {done.serial})")
        if renewed:
            typer.echo(f"signed anew: {', '.join(renewed)}")


def _tolerance(text: str) -> tuple[str, float]:
    """A provider, and how far its answers may differ, from `PROVIDER=X`."""
    provider, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not provider.endswith("ExecutionProvider") or not 0 <= value < 1:
        raise typer.BadParameter(
            f"{text!r} is no tolerance such as TensorrtExecutionProvider=0.01", param_hint="--tolerance"
        )
    return provider, value


def _window(text: str) -> dict[str, Any]:
    """A window as an assignment has it, from words. `{}` lifts one."""
    from visionops_assets.config.device_group_rules import window_of

    try:
        return window_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--window") from error
