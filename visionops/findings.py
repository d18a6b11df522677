"""`visionops findings`: everything that the audit of a batch found."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 20


def command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    batch: Annotated[str, typer.Argument(help="Name of the batch, for example week-07.")],
    to: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Write all of them to this CSV file.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write pages with the pictures into this new folder."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of them as JSON.")] = False,
) -> None:
    """Show what the audit of a batch found, image by image: label, what is suspected instead, and how it is mended.

    Of a refused batch that waits on its branch, else of the published one (also once it was retracted).
    """
    from visionops import services
    from visionops.progress import progress_line
    from visionops_assets.common.findings import findings_in_words
    from visionops_assets.dataset.stored_findings import batch_findings
    from visionops_assets.dataset.versions.layout import check_batch_name

    found, lakefs = services.project(project), services.lakefs()
    kept = batch_findings(lakefs, found, check_batch_name(batch))
    if to is not None:
        write_csv(kept.table, to)
    if html is not None:
        from visionops.findings_pages import write_pages

        with progress_line(batch) as progress:
            write_pages(lakefs, found, kept, html, lambda done, of: progress("pictures", done, of))
    if as_json:
        told = {
            "project": project,
            "batch": batch,
            "outcome": kept.outcome,
            "commit": kept.commit.id,
            "findings": [_plain(row) for row in kept.table.to_dict("records")],
        }
        typer.echo(json.dumps(told, indent=1))
        return
    typer.echo(
        f"{batch} of {project}, {kept.outcome} in commit {kept.commit.id[:12]}: {len(kept.table):,} findings"
    )
    if to is None and html is None and not kept.table.empty:
        typer.echo(findings_in_words(kept.table, most=SHOWN))
        typer.echo("`--to FILE.csv` writes all of them, `--html FOLDER` shows the pictures")
    for written in (to, html / "index.html" if html is not None else None):
        if written is not None:
            typer.echo(f"written: {written}")


def write_csv(findings: "pd.DataFrame", file: Path) -> None:
    """All findings as CSV, whole or not at all, the box in a column a side.

    Raises ValueError for a file of another kind, and OSError.
    """
    import pandas as pd

    from resources.whole_outputs import whole_file
    from visionops_assets.dataset.findings_file import all_columns, for_spreadsheets

    if file.suffix.lower() != ".csv":
        raise ValueError(
            f"{file}: findings are written as CSV; name the file {file.with_suffix('.csv').name}"
        )
    table = all_columns(findings)
    sides = pd.DataFrame(
        [[None if box is None else box[side] for side in "xywh"] for box in table.pop("box")],
        columns=[f"box_{side}" for side in "xywh"],
        dtype=object,
    )
    first = ["image", "check", "severity", "label", "suspected", "confidence"]
    ordered = table[first + [name for name in table if name not in first]]
    with whole_file(file) as unfinished:
        pd.concat([for_spreadsheets(ordered), sides], axis=1).to_csv(
            unfinished, index=False, encoding="utf-8"
        )


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    """A finding for programs; without what is not known of it."""
    return {str(name): value for name, value in row.items() if value is not None}
