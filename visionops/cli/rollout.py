"""`visionops rollout`: a version on its way to a device group in waves, and what people answer about one."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visionops import interruption
from visionops.edge_repository import changing, published

if TYPE_CHECKING:
    from visionops_assets.config.project import Project
    from visionops_assets.rollout.rollouts import Kind

rollout_app = typer.Typer(help="Versions on their way to device groups, in waves.", no_args_is_help=True)

ProjectName = Annotated[str, typer.Argument(help="Name of the project.")]
OneGroup = Annotated[
    str | None, typer.Option(help="Device group; not needed where one rollout is in progress.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


@rollout_app.command("start")
def start_command(
    project: ProjectName,
    group: Annotated[str, typer.Option(help="Device group, such as line-1, of `delivery.groups`.")],
    why: Annotated[str, typer.Option(help="Why; kept for ever.")] = "",
    version: Annotated[
        int | None,
        typer.Option(
            "--model-version",
            metavar="N",
            help="A version that was in production; by default what all runs.",
        ),
    ] = None,
    waves: Annotated[
        str | None,
        typer.Option(
            metavar="SHARES",
            help="Shares of the group, such as 0.1,0.5,1; by default those of the project file.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let a device group try a version in waves: each goes on only where its devices do well, and what fails goes back.

    Nothing is judged or trained. Who starts it is VISIONOPS_ACTOR.
    """
    from resources.models.records import alias_of
    from visionops import services
    from visionops_assets.delivery.rollout_steps import Reach, Step, append, carry_out, first_entry
    from visionops_assets.promotion.production_change import Attribution
    from visionops_assets.rollout.rollouts import rollouts_need_group

    interruption.keep("the rollout begins whole or not at all")
    found, registry, actor = services.project(project), services.registry(), services.actor()
    rollouts_need_group(project, group, list(found.delivery.groups))
    shares = _shares(waves) if waves is not None else None
    running = published(found.delivered_as).running()
    alive = _alive(found, running)
    model = registry.models.get(project)
    now = datetime.now(UTC)
    wanted = version if version is not None else model.aliases.get("champion")
    if wanted is None:
        from resources.error_family import NotFound
        from visionops_assets.champions.history import nothing_runs

        raise NotFound(nothing_runs(model))
    by = Attribution(actor, now, why.strip() or f"begun by {actor}")
    assigned = int(running[group][1]["model"]["version"]) if group in running else None
    over = Reach(alive.get(group, ()), shares, assigned)
    if model.aliases.get(alias_of(group)) is None and assigned is not None:
        # What it is refused for is refused first.
        first_entry(found, model, group, wanted, over, by)
        step = Step("adopt", group, assigned, "what it is assigned is the base of its first rollout")
        carry_out(registry, found, step, alive, now)
    begun = append(
        registry,
        project,
        lambda model: first_entry(found, model, group, wanted, over, by),
    )
    assert begun is not None
    if as_json:
        typer.echo(begun.to_json())
        return
    base = f" instead of version {begun.base}" if begun.base is not None else ""
    typer.echo(
        f"{project}: {group} tries version {begun.version}{base} in {len(begun.waves)} waves: {begun.rollout}"
    )
    typer.echo(
        f"the sensor or `visionops tick {project}` publishes each; `visionops rollout status {project}` tells of it"
    )


@rollout_app.command("status")
def status_command(
    project: ProjectName,
    rollout: Annotated[
        str | None, typer.Argument(help="One rollout; by default the newest of each group.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show rollouts: the verdict in words, evidence, waves, the devices that refused it, and what may be typed."""
    from resources.error_family import NotFound
    from resources.nearest import there_are
    from visionops import services
    from visionops_assets.delivery.rollout_page import current_rollouts, rollouts_now

    found = services.project(project)
    model, artifacts = services.registry().models.get(project), services.artifacts()
    if rollout is not None:
        known = rollouts_now(found, model, artifacts)
        shown = [each for each in known if each.rollout.id == rollout]
        if not shown:
            names = [each.rollout.id for each in known]
            raise NotFound(f"{project} has no rollout {rollout}; {there_are(rollout, names)}")
    else:
        shown = current_rollouts(found, model, artifacts)
    if as_json:
        typer.echo(json.dumps({"project": project, "rollouts": [each.to_json() for each in shown]}, indent=1))
        return
    for each in shown:
        typer.echo(each.page().to_text())
    if not shown:
        typer.echo(
            f"{project} had no rollout yet: `visionops rollout start {project} --group GROUP --why TEXT`"
        )


@rollout_app.command("pause")
def pause_command(
    project: ProjectName,
    group: OneGroup = None,
    why: Annotated[str, typer.Option(help="Why; kept for ever.")] = "",
    as_json: AsJson = False,
) -> None:
    """Let a rollout stay in its wave, whatever speaks for it; what speaks against it brings it back all the same."""
    _lead(project, group, "pause", why, as_json)


@rollout_app.command("resume")
def resume_command(
    project: ProjectName,
    group: OneGroup = None,
    why: Annotated[str, typer.Option(help="Why; kept for ever.")] = "",
    as_json: AsJson = False,
) -> None:
    """Let a rollout that was paused go on."""
    _lead(project, group, "resume", why, as_json)


@rollout_app.command("abort")
def abort_command(
    project: ProjectName,
    why: Annotated[str, typer.Option(help="Why; kept for ever.")],
    group: OneGroup = None,
    as_json: AsJson = False,
) -> None:
    """End a rollout: its devices go back to what the group runs. No hold."""
    _lead(project, group, "abort", why, as_json)


@rollout_app.command("override")
def override_command(
    project: ProjectName,
    why: Annotated[str, typer.Option(help="Why; kept for ever.")],
    group: OneGroup = None,
    as_json: AsJson = False,
) -> None:
    """Begin the next wave without what the present one lacks; from the last, complete the rollout.

    A FAIL is not overridden: devices have refused it.
    """
    _lead(project, group, "wave", why, as_json)


def _lead(project: str, group: str | None, kind: "Kind", why: str, as_json: bool) -> None:
    """Append what a person answers to a rollout in progress."""
    from visionops import services
    from visionops_assets.delivery.rollout_page import rollouts_now
    from visionops_assets.delivery.rollout_steps import append, rollouts_of
    from visionops_assets.rollout.rollouts import led_on, the_one_in_progress

    interruption.keep("the rollout was led on whole or not at all")
    found, registry, actor = services.project(project), services.registry(), services.actor()

    def entry(model: Any) -> Any:
        rollout = the_one_in_progress(project, rollouts_of(model), group)
        asked: Kind = "complete" if kind == "wave" and rollout.last_wave else kind
        return led_on(rollout, asked, when=datetime.now(UTC), who=actor, why=why)

    done = append(registry, project, entry)
    assert done is not None
    now = rollouts_now(found, registry.models.get(project), services.artifacts())
    (shown,) = [each for each in now if each.rollout.id == done.rollout]
    if as_json:
        typer.echo(json.dumps(shown.to_json(), indent=1))
        return
    typer.echo(f"{project}: {done.kind} of {done.rollout}, by {actor}{f': {why}' if why else ''}")
    if done.kind not in ("pause", "resume"):
        typer.echo(
            f"the sensor or `visionops tick {project}` publishes it; devices take it at their next look"
        )


def _alive(project: "Project", running: Any) -> dict[str, list[str]]:
    """By group, its devices that were heard of lately."""
    from visionops.edge_repository import enrolled_devices
    from visionops_assets.delivery.rolling_out import heard_of

    return heard_of(enrolled_devices(project, running))


def _shares(text: str) -> list[float]:
    """Waves from `0.1,0.5,1`. Raises `BadWaves`."""
    from visionops_assets.config.rollout_rules import BadWaves, check_waves

    try:
        shares = [float(each) for each in text.split(",")]
    except ValueError as error:
        raise BadWaves(f"--waves {text!r} is no list of shares such as 0.1,0.5,1") from error
    check_waves(shares)
    return shares


@rollout_app.command("sign")
def sign_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    key: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Your key: file2:FILE, awskms:…, gcpkms:…, azurekms:…, hv:…, hsm:…."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Sign without asking once more.")] = False,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Let the release that waits go, unsigned.")
    ] = False,
) -> None:
    """Sign the release that waits for approvers, after seeing what it is.

    Its files are held to their digests first. Without --key nothing is signed: it is shown.
    """
    from visionops_assets.delivery.signers import key_at
    from visionops_assets.delivery.tuf_files import CannotPublish

    with changing(project) as repository:
        found = repository.waiting()
        if found is None:
            typer.echo(f"no release of {project} waits for approvers")
            return
        manifest, signed = found
        for line in _in_words(manifest):
            typer.echo(line)
        typer.echo(signed)
        if withdraw:
            repository.withdraw()
            typer.echo(f"release {manifest['release']} of {project} is withdrawn")
            return
        if key is None:
            return
        signer = key_at(key).signer()
        if not yes:
            typer.confirm("Sign that this model may run on devices?", abort=True)
        signed = repository.sign_bundle(signer)
        typer.echo(signed)
        try:
            complete = repository.complete_bundle()
        except CannotPublish:
            # An approver need not have the keys that publish.
            complete = False
        if complete:
            typer.echo(
                f"release {manifest['release']} is published; `visionops tick {project}` assigns it to groups that "
                f"follow, `visionops fleet publish {project} --group GROUP` to others"
            )


def _in_words(manifest: dict[str, Any]) -> list[str]:
    model = manifest["model"]
    return [
        f"{manifest['project']} release {manifest['release']} ({manifest['variant']}): version {model['version']}, "
        f"trained on {model['partition']}",
        f"  verdict     {manifest['gate']['verdict'] or 'none is recorded'}",
        f"  weights     {model['weights_sha256']}",
        *(
            f"  {name:<11} {each['sha256']} ({each['size']:,} bytes)"
            for name, each in manifest["files"].items()
        ),
        f"  requires    {json.dumps(manifest['requires'])}",
        f"  budget      {json.dumps(manifest['budget'])}",
    ]
