"""`visionops train` and `reproduce`: experiments, which promote nothing, and a registered version made again."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visionops import interruption

if TYPE_CHECKING:
    from visionops_assets.config.recipe import Recipe
    from visionops_assets.experiments.experiment import Attempt, Trained
    from visionops_assets.experiments.sweep import Sweep


def train_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    version: Annotated[
        str | None,
        typer.Option(
            "--dataset-version",
            metavar="VERSION",
            help="Dataset version, commit, branch, tag or batch; by default the newest dataset version.",
        ),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="A value of the recipe, such as optimiser.lr=0.01."),
    ] = None,
    sweep: Annotated[
        Path | None, typer.Option(help="A YAML file that declares a grid or random search.")
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say only what came of it, not what is being done.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the runs as JSON.")] = False,
) -> None:
    """Train recipes on a dataset version as MLflow runs. Nothing is registered, judged or promoted.

    What was trained before is reused, so a sweep that was killed goes on where it was. `visionops submit PROJECT RUN`
    has a run judged. Exit code 1 if a training failed.
    """
    interruption.keep("what is trained is kept, and a training up to its last checkpoint")
    from visionops import services
    from visionops.terminal import PHASES, Doing, Follower, shown_line
    from visionops_assets.common.progress import watched
    from visionops_assets.dataset.versions.dataset_version import named_version
    from visionops_assets.experiments.experiment import Hearing, best_of, train_all
    from visionops_assets.experiments.sweep import load_sweep

    found = services.project(project)
    declared = load_sweep(sweep) if sweep is not None else None
    attempts = _attempts(found.recipe, values or (), declared, sweep)
    stores = services.stores()
    dataset = named_version(stores.lakefs, stores.artifacts, found, version)
    ended: list[Trained] = []

    many = len(attempts) > 1
    with shown_line(declared.name if declared else project, wanted=not quiet) as line:

        def show(doing: Doing) -> None:
            """Of many trainings, how much of all of them is done."""
            if many:
                share = doing.done / doing.of if doing.said.startswith("epoch") else 0.0
                said = f"{len(ended) + 1} of {len(attempts)}{', ' if doing.said else ''}{doing.said}"
                doing = Doing(doing.phase, said, len(ended) + share, len(attempts))
            line.show(doing)

        follower = Follower(show)
        follower.enter(PHASES["challenger"])

        def say(text: str) -> None:
            if not follower.read(text):
                line.say(text)

        def on_attempt(trained: "Trained") -> None:
            ended.append(trained)
            if many:
                line.say(f"{len(ended)} of {len(attempts)}: {_line(trained, found.task)}")

        hearing = Hearing(_notices(say) if many else say, on_attempt=on_attempt)
        with watched(follower.hear):
            results = train_all(
                found,
                dataset,
                attempts,
                stores,
                sweep=declared.name if declared else None,
                hearing=hearing,
            )
    best = best_of(results, found.task)
    if as_json:
        told = _told(found.project, found.task, dataset.partition, results, best)
        typer.echo(json.dumps({**told, "sweep": declared.name if declared else None}, indent=1))
    else:
        _show(found.project, results, best, found.task)
    if any(each.error for each in results):
        raise typer.Exit(1)


def _attempts(
    recipe: "Recipe", values: Sequence[str], sweep: "Sweep | None", path: Path | None
) -> "list[Attempt]":
    """What to train. Every value is checked before anything else is asked of anybody."""
    from visionops_assets.experiments.experiment import Attempt
    from visionops_assets.experiments.sweep import overridden, parse_assignments, recipes_of

    given = parse_assignments(values)
    base = overridden(recipe, given, "--set")
    if sweep is None or path is None:
        return [Attempt(given, base)]
    return [Attempt({**given, **point}, tried) for point, tried in recipes_of(sweep, base, path)]


def _notices(say: Any) -> Any:
    """Of many trainings only what a person must know: that W&B is offline, once."""
    said: set[str] = set()

    def notice(text: str) -> None:
        if text.startswith("W&B") and text not in said:
            said.add(text)
            say(text)

    return notice


def _told(
    project: str, task: str, partition: str, results: "Sequence[Trained]", best: "Trained | None"
) -> dict[str, Any]:
    """What --json prints."""
    from dataclasses import asdict

    from visionops_assets.experiments.experiment import score_of

    return {
        "project": project,
        "version": partition,
        "metric": score_of(task),
        "best": None if best is None else best.run_id,
        "runs": [asdict(each) for each in results],
    }


def _line(trained: "Trained", task: str) -> str:
    from visionops_assets.experiments.experiment import LOSS, score_of

    if trained.error is not None:
        return f"{trained.name}: failed: {trained.error}"
    shown = [
        f"{name} {trained.metrics[name]:.4f}" for name in (score_of(task), LOSS) if name in trained.metrics
    ]
    before = " (trained before)" if trained.reused else ""
    return f"{trained.name}: {', '.join(shown) or 'no validation images'}{before}"


def _show(project: str, results: "Sequence[Trained]", best: "Trained | None", task: str) -> None:
    """Best first, with the command that has it judged."""
    from visionops_assets.experiments.experiment import ranked

    for each in ranked(results, task):
        typer.echo(f"{each.run_id or '-':<32}  {_line(each, task)}")
    if best is not None:
        typer.echo(f"best on validation: {best.url}")
        typer.echo(f"`visionops submit {project} {best.run_id}` has it judged on the newest holdout")


def reproduce_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    version: Annotated[
        int | None,
        typer.Option(
            "--model-version", metavar="N", help="A registered version; by default the one in production."
        ),
    ] = None,
    inputs_only: Annotated[
        bool, typer.Option("--inputs-only", help="Compare the recorded inputs; train nothing.")
    ] = False,
    present_versions: Annotated[
        bool,
        typer.Option(
            "--present-versions", help="Train with the packages installed here, not those recorded."
        ),
    ] = False,
    register: Annotated[
        bool,
        typer.Option(
            "--register", help="Put back files of the version that are gone, where what was made is the same."
        ),
    ] = False,
    unverified: Annotated[
        bool,
        typer.Option(
            "--unverified",
            help="Run the recorded code of a version that was registered before the digest of its record was.",
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say only what came of it, not what is being done.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the certificate as JSON.")] = False,
) -> None:
    """Make a version again from its recorded data, recipe, code and package versions, and certify the result.

    It needs lakeFS, MLflow and a clone of the code, and no project file. Exit code 0 if the version can be made
    again, 1 if something differs.
    """
    interruption.keep("the version stays as it is, and so does what was installed for it")
    from visionops import services
    from visionops.terminal import PHASES, Follower, shown_line
    from visionops_assets.common.progress import watched
    from visionops_assets.reproduction.reproduce import Scope, reproduce

    if register and inputs_only:
        raise typer.BadParameter("--register puts back what was trained, and --inputs-only trains nothing")
    stores = services.stores()
    scope = Scope(inputs_only, present_versions, register, unverified)
    with shown_line(project, wanted=not quiet) as line:
        follower = Follower(line.show)

        def say(text: str) -> None:
            if not follower.read(text):
                line.say(text)
                # Once there is something to make.
                follower.enter(PHASES["make_again"])

        with watched(follower.hear):
            made = reproduce(
                stores,
                project,
                version,
                when=datetime.now(UTC),
                scope=scope,
                say=say,
            )
    if as_json:
        typer.echo(json.dumps(made.to_json(), indent=1))
    else:
        typer.echo(made.certificate.to_page().to_text())
        for file in made.restored:
            typer.echo(f"put back: {file} of version {made.certificate.version}")
        typer.echo(f"kept: {stores.registry.run_url(stores.registry.runs.get(made.run_id), made.page)}")
        if (need := services.pages_need()) is not None:
            typer.echo(need)
    if not made.certificate.holds:
        raise typer.Exit(1)
