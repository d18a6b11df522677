"""`visionops inspect`: what a source is, before anything is published."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visionops import interruption, source_options

if TYPE_CHECKING:
    import pandas as pd

    from visionops_assets.dataset.batch_plan import BatchPlan
    from visionops_assets.dataset.importing.columns import Source

_LINES = 11
_SHOWN = 6


def command(
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
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Show what a source is: its format and why, what it holds, what is wrong with it, and what would be left out.

    Nothing is imported. Ends with 1 where something is wrong that would keep it from being published.
    """
    interruption.keep("nothing was made")
    from visionops.progress import progress_line
    from visionops.sources import opened
    from visionops_assets.dataset.batch_plan import plan_batch
    from visionops_assets.dataset.importing.class_names import class_names
    from visionops_assets.dataset.importing.reading import read_source
    from visionops_assets.dataset.versions.manifest import no_rows
    from visionops_assets.project import Splits

    stated = source_options.stated(
        format_name, encoding, boxes, unlabelled, renamed, dropped, leave_out_errors, follow_links
    )
    with progress_line("inspect") as progress, opened(source, progress) as one:
        # The splits as the source has them: what becomes of val is said by what main has.
        found = read_source(one.path, stated, held_elsewhere=True)
        plan = plan_batch(
            one.path,
            "inspected",
            class_names(found.images),
            "inspected",
            no_rows(),
            Splits().shares(),
            "inspected",
            stated=stated,
            progress=lambda done, of: progress("checked", done, of),
        )
        if preview is not None:
            from visionops.preview import write_preview

            write_preview(found, preview)
    if as_json:
        typer.echo(json.dumps(_told(source, found, plan), indent=1, ensure_ascii=False))
    else:
        typer.echo(_in_words(source, found, plan))
        if preview is not None:
            typer.echo(f"written: {preview / 'index.html'}")
    if not plan.ok:
        raise typer.Exit(1)


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


def _told(source: str, found: "Source", plan: "BatchPlan") -> dict[str, Any]:
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
        "task": "detection" if "boxes" in plan.annotations.column_names else "classification",
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

    table, without = plan.annotations, None
    labels = table["label"] if "label" in table.column_names else None
    if labels is None:
        boxes = table["boxes"].combine_chunks()
        without = int(pc.sum(pc.equal(pc.list_value_length(boxes), 0)).as_py() or 0)
        labels = boxes.flatten().field("label")
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
