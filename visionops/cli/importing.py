"""`visionops inspect` and `import`: what a source is, and a batch of it taken by hand."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visionops import interruption
from visionops.cli import source_options
from visionops_assets.tasks.task_registry import task_taught_by

if TYPE_CHECKING:
    import pandas as pd

    from visionops_assets.dataset.batch_plan import BatchPlan
    from visionops_assets.dataset.batch_publishing import BatchRefused, Progress, Published
    from visionops_assets.dataset.importing.image_columns import Source
    from visionops_assets.dataset.importing.statements import Stated


_LINES = 11
_SHOWN = 6


def inspect_command(
    source: Annotated[
        str,
        typer.Argument(
            help="Images with their labels: a folder, an archive, s3://bucket/folder, or dvc://PATH[@REV]."
        ),
    ],
    format_name: source_options.Format = None,
    encoding: source_options.Encoding = None,
    boxes: source_options.Boxes = None,
    unlabelled: source_options.Unlabelled = None,
    renamed: source_options.Renamed = None,
    dropped: source_options.Dropped = None,
    leave_out_errors: source_options.LeaveOutErrors = False,
    follow_links: source_options.FollowLinks = False,
    preview: source_options.Preview = None,
    project: Annotated[
        str | None,
        typer.Option(help="Also say what importing it into this project would find beside what main holds."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Show what a source is: its format and why, what it holds, what is wrong with it, and what would be left out.

    Nothing is imported. With --project it is held against the project's classes and rules, and what `main` holds. Ends
    with 1 where something is wrong that would keep it from being published.
    """
    interruption.keep("nothing was made")
    from visionops.cli.source_options import opened_source
    from visionops.terminal import progress_line
    from visionops_assets.config.project import Splits
    from visionops_assets.dataset.batch_plan import BatchRules, OnMain, plan_batch
    from visionops_assets.dataset.importing.class_names import class_names, renames
    from visionops_assets.dataset.importing.reading import read_source
    from visionops_assets.dataset.importing.statements import Stated, known_unlabelled
    from visionops_assets.dataset.versions.manifest import no_rows

    stated = Stated(
        format=format_name,
        encoding=encoding,
        boxes=boxes,
        unlabelled=known_unlabelled(unlabelled),
        renamed=renames(renamed or ()),
        dropped=frozenset(dropped or ()),
        leave_out_errors=leave_out_errors,
        follow_links=follow_links,
    )
    with progress_line("inspect") as progress, opened_source(source, progress) as one:
        # The splits as the source has them: what becomes of val is said by what main has.
        found = read_source(one.path, stated, held_elsewhere=True)
        if project is not None:
            plan = _beside_main(project, one.path, stated, progress)
        else:
            plan = plan_batch(
                one.path,
                "inspected",
                BatchRules(class_names(found.images), "inspected", Splits().shares(), "inspected"),
                OnMain(no_rows()),
                stated=stated,
                progress=lambda done, of: progress("checked", done, of),
            )
        if preview is not None:
            from visionops.cli.source_options import write_preview

            write_preview(found, preview)
    if as_json:
        typer.echo(json.dumps(_told_source(source, found, plan), indent=1, ensure_ascii=False))
    else:
        typer.echo(_in_words(source, found, plan))
        if preview is not None:
            typer.echo(f"written: {preview / 'index.html'}")
    if not plan.ok:
        raise typer.Exit(1)


def _beside_main(project: str, folder: Path, stated: "Stated", progress: "Progress") -> "BatchPlan":
    from visionops import services
    from visionops_assets.dataset.batch_publishing import Publisher

    declared = services.project(project)
    publisher = Publisher(
        declared,
        services.lakefs(),
        services.artifacts(),
        progress=progress,
        neighbours=services.neighbours(declared),
    )
    return publisher.inspected(folder, stated)


def _in_words(source: str, found: "Source", plan: "BatchPlan") -> str:
    from visionops_assets.common.findings import findings_in_words

    recognised = found.recognised
    lines = [f"{source}: {recognised.format}, since {recognised.reason}"]
    lines += [f"  {name} fits too ({reason}); {_lost(name)}" for name, reason in recognised.others[:2]]
    of_each, without = _classes(plan)
    what = "images" if without is None else "boxes"
    shown = f"{len(plan.uploads):,} images; {what} of each class: {_few(of_each)}"
    lines += [shown + (f"; images without a box: {without:,}" if without else "")]
    splits = _splits(found)
    only_val = "val" in splits and splits.keys() <= {"train", "val"}
    held = "; val is held out where main has no holdout yet" if only_val else ""
    lines += [f"splits that come with it: {_few(splits)}{held}"]
    lines += [f"not read: {name} {reason}" for name, reason in list(found.not_read.items())[:2]]
    lines += [plan.sums.in_words(), findings_in_words(_of_source(plan), lines=_LINES)]
    return "\n".join(lines)


def _told_source(source: str, found: "Source", plan: "BatchPlan") -> dict[str, Any]:
    from visionops_assets.common.findings import grouped

    return {
        "source": source,
        "format": found.recognised.format,
        "reason": found.recognised.reason,
        "others": [
            {"format": name, "reason": reason, "lost": _lost(name)}
            for name, reason in found.recognised.others
        ],
        "not_read": dict(found.not_read),
        "task": task_taught_by(plan.annotations.column_names).name,
        "classes": _classes(plan)[0],
        "images_without_boxes": _classes(plan)[1],
        "splits": _splits(found),
        **plan.sums.as_dict(),
        "publishable": plan.ok,
        "findings": grouped(_of_source(plan)),
    }


def _of_source(plan: "BatchPlan") -> "pd.DataFrame":
    """The findings with images named as in the source, where there is no batch yet."""
    from visionops_assets.dataset.versions.layout import images_prefix

    prefix = images_prefix(plan.batch)
    texts = ("image", "what", "why")
    return plan.findings.assign(
        **{name: [str(text).replace(prefix, "") for text in plan.findings[name]] for name in texts}
    )


def _lost(name: str) -> str:
    from visionops_assets.dataset.importing.formats import folders

    if name == folders.NAME:
        return "folders are taken for classes only where nothing else says what images show"
    return f"the one above says more; --format {name} reads it so"


def _classes(plan: "BatchPlan") -> tuple[dict[str, int], int | None]:
    """Images, or boxes where there are some, by class, as `init` counts them; and how many images have no box."""
    import pyarrow.compute as pc

    from visionops_assets.dataset.dataset_task import truth_of

    table, without = plan.annotations, None
    column, task = truth_of(table.column_names)
    labels, rows = task.named(table[column].combine_chunks())
    if not task.whole_images:
        without = len(table) - len(set(rows.tolist()))
    counts = {each["values"]: each["counts"] for each in pc.value_counts(labels).to_pylist()}
    return {str(name): counts[name] for name in sorted(counts)}, without


def _splits(found: "Source") -> dict[str, int]:
    from visionops_assets.dataset.versions.annotations import SPLITS

    counts = {name: int((found.images.split == number).sum()) for number, name in enumerate(SPLITS)}
    counts["by lot"] = int((found.images.split == -1).sum())
    return {name: number for name, number in counts.items() if number}


def _few(counts: dict[str, int]) -> str:
    shown = ", ".join(f"{name} ({number:,})" for name, number in list(counts.items())[:_SHOWN])
    more = len(counts) - _SHOWN
    return (f"{shown} and {more:,} more" if more > 0 else shown) or "none"


def import_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    source: Annotated[
        str,
        typer.Argument(
            help="Images with their labels: a folder, an archive, s3://bucket/folder, or dvc://PATH[@REV]."
        ),
    ],
    batch: Annotated[str, typer.Option(help="Name the batch will have, for example week-07.")],
    format_name: source_options.Format = None,
    encoding: source_options.Encoding = None,
    boxes: source_options.Boxes = None,
    unlabelled: source_options.Unlabelled = None,
    renamed: source_options.Renamed = None,
    dropped: source_options.Dropped = None,
    leave_out_errors: source_options.LeaveOutErrors = False,
    follow_links: source_options.FollowLinks = False,
    holdout: source_options.Holdout = None,
    preview: source_options.Preview = None,
    findings_to: Annotated[
        Path | None,
        typer.Option("--findings", metavar="FILE.csv", help="Write all that this audit finds to this file."),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say only what came of it, not what is being done.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what came of it as JSON, whole.")] = False,
) -> None:
    """Import a batch on a branch of its own, check it, and merge it to main only if it passes.

    Importing the same batch again changes nothing; a corrected one replaces it.
    """
    interruption.keep(f"{batch} is published whole or not at all")
    from visionops import services
    from visionops.cli.dataset import write_csv
    from visionops.cli.source_options import opened_source
    from visionops.terminal import progress_line
    from visionops_assets.common.findings import findings_in_words
    from visionops_assets.dataset.batch_publishing import SHOWN_LINES, BatchRefused, Publisher
    from visionops_assets.dataset.importing.class_names import renames
    from visionops_assets.dataset.importing.reading import read_source
    from visionops_assets.dataset.importing.statements import Stated, known_unlabelled
    from visionops_assets.evaluation.scoring import champion_opinion

    stated = Stated(
        format=format_name,
        encoding=encoding,
        boxes=boxes,
        unlabelled=known_unlabelled(unlabelled),
        renamed=renames(renamed or ()),
        dropped=frozenset(dropped or ()),
        leave_out_errors=leave_out_errors,
        follow_links=follow_links,
        holdout=holdout,
    )
    found, registry = services.project(project), services.registry()
    with progress_line(batch, not quiet) as progress, opened_source(source, progress) as one:
        if one.must_be_copied:
            found = found.model_copy(update={"source_is_immutable": False})
        publisher = Publisher(
            found,
            services.lakefs(),
            services.artifacts(),
            progress,
            metadata=dict(one.provenance),
            opinion=champion_opinion(registry, found),
            check_source=one.check_unchanged,
            neighbours=services.neighbours(found),
        )
        if preview is not None:
            from visionops.cli.source_options import write_preview

            write_preview(read_source(one.path, stated), preview)
            typer.echo(f"written: {preview / 'index.html'}", err=as_json)
        try:
            published = publisher.publish(one.path, batch, stated, one.address)
        except BatchRefused as refused:
            if findings_to is not None:
                write_csv(refused.findings, findings_to)
            if as_json:
                typer.echo(told_import(project, batch, "refused", None, refused))
                raise typer.Exit(1) from refused
            raise
    if findings_to is not None:
        write_csv(published.findings, findings_to)
    interruption.keep(f"{batch} is published", "tick", project)
    if as_json:
        typer.echo(told_import(project, batch, published.outcome, published.commit, published))
        return
    if not published.findings.empty:
        typer.echo(findings_in_words(published.findings, lines=SHOWN_LINES))
        if published.outcome == "published":
            typer.echo(f"`visionops findings {project} {batch} --html FOLDER` shows them with the images")
    typer.echo(published.sums.in_words())
    typer.echo(published.splits.in_words())
    if published.outcome == "unchanged":
        typer.echo(f"{batch}: {published.images} images are on main already, nothing changed")
    else:
        typer.echo(f"{batch}: {published.images} images published in commit {(published.commit or '')[:12]}")
        typer.echo(f"`visionops tick {project}`, or the sensor of `visionops up`, does the rest")


def told_import(
    project: str,
    batch: str,
    outcome: str,
    commit: str | None,
    came: "Published | BatchRefused",
    **more: object,
) -> str:
    """What came of a batch, whole, as JSON; of what is refused `main` has nothing, hence no splits."""
    from visionops_assets.common.findings import grouped
    from visionops_assets.dataset.batch_publishing import Published

    splits = {"splits": came.splits.as_dict()} if isinstance(came, Published) else {}
    content = {"project": project, "batch": batch, "outcome": outcome, "commit": commit, **more}
    content |= {**came.sums.as_dict(), **splits, "findings": grouped(came.findings)}
    return json.dumps(content, indent=1, ensure_ascii=False)
