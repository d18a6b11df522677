"""The options by which a person states what the files of a source do not say."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from visionops_assets.dataset.importing.options import Stated

Format = Annotated[
    str | None, typer.Option("--format", help="How the source keeps its labels; detected if not given.")
]
Encoding = Annotated[
    str | None,
    typer.Option(help="Encoding of texts and of names in zips that are not UTF-8, for example cp1252."),
]
Boxes = Annotated[
    str | None,
    typer.Option(help="Order of a table's boxes where its columns do not say it: xywh, xyxy, cxcywh."),
]
Unlabelled = Annotated[
    str | None,
    typer.Option(
        help="What an image without annotation is: background, leave-out or error. By default background in YOLO, "
        "elsewhere leave-out."
    ),
]
Renamed = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="OLD=NEW", help="Call a class otherwise; may be repeated."),
]
Dropped = Annotated[
    list[str] | None,
    typer.Option("--drop-class", metavar="NAME", help="Leave out a class, or its boxes; may be repeated."),
]
LeaveOutErrors = Annotated[
    bool,
    typer.Option("--leave-out-errors", help="Leave out what has an ERROR, count it, and publish the rest."),
]
FollowLinks = Annotated[
    bool, typer.Option("--follow-links", help="Follow links that lead out of the source.")
]
Holdout = Annotated[
    float | None,
    typer.Option(
        min=0.01,
        max=0.9,
        help="Draw the splits by lot, by group, whatever the source says: so much of main, with this batch, is held "
        "out.",
    ),
]
Preview = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Write sheets with images and their boxes into this new folder."),
]


def stated(
    format_name: str | None = None,
    encoding: str | None = None,
    boxes: str | None = None,
    unlabelled: str | None = None,
    renamed: list[str] | None = None,
    dropped: list[str] | None = None,
    leave_out_errors: bool = False,
    follow_links: bool = False,
    holdout: float | None = None,
) -> "Stated":
    """What the options say. Raises ValueError naming the one that cannot be."""
    from visionops_assets.dataset.importing.class_names import renames
    from visionops_assets.dataset.importing.options import BOX_ORDERS, UNLABELLED, Stated

    if boxes is not None and boxes not in BOX_ORDERS:
        raise ValueError(f"--boxes {boxes}: expected {', '.join(BOX_ORDERS)}")
    if unlabelled is not None and unlabelled not in UNLABELLED:
        raise ValueError(f"--unlabelled {unlabelled}: expected {', '.join(UNLABELLED)}")
    return Stated(
        format_name,
        encoding,
        boxes,
        unlabelled,
        renames(renamed or ()),
        frozenset(dropped or ()),
        leave_out_errors,
        follow_links,
        holdout,
    )


def typed(stated: "Stated") -> tuple[str, ...]:
    """The options that say the same on a command line."""
    flags: list[str] = []
    for flag, value in (
        ("--format", stated.format),
        ("--encoding", stated.encoding),
        ("--boxes", stated.boxes),
        ("--unlabelled", stated.unlabelled),
        ("--holdout", stated.holdout),
    ):
        flags += [flag, str(value)] if value is not None else []
    flags += [part for old, new in stated.renamed.items() for part in ("--map", f"{old}={new}")]
    flags += [part for name in sorted(stated.dropped) for part in ("--drop-class", name)]
    flags += ["--leave-out-errors"] if stated.leave_out_errors else []
    return (*flags, *(["--follow-links"] if stated.follow_links else []))
