"""Where a batch comes from when a person names it, what that person states of its files, and sheets of its images
with their boxes drawn: the one check that shows a silent shift.
"""

import html
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.files import named_path
from resources.error_family import Invalid

if TYPE_CHECKING:
    from visionops_assets.dataset.importing.image_columns import Source
    from visionops_assets.dataset.importing.statements import Stated

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
# A sheet is wider than many windows.
_STYLE = "<style>body { margin: 1rem; font-family: sans-serif } img { max-width: 100%; height: auto }</style>"
SHOWN = 60
_ON_A_SHEET = 20
_LONGEST = 28


@dataclass(frozen=True)
class OpenedSource:
    """A source as a local path (from S3 and DVC a copy), the address where its images could stay, and what raises
    `DropChanged` where it is no longer what was copied.

    `provenance` is for the batch's commit. Of what must be copied, images can stay nowhere."""

    path: Path
    address: str | None = None
    check_unchanged: Callable[[], None] = lambda: None
    provenance: Mapping[str, str] = field(default_factory=dict)
    must_be_copied: bool = False


@contextmanager
def opened_source(source: str, progress: Callable[[str, int, int], None]) -> Iterator[OpenedSource]:
    """Open a source; a copy that broke off goes on where it stopped.

    Raises `DropError`, `DVCError`, and ValueError for an address without a folder.
    """
    if source.startswith("dvc://"):
        from resources import home
        from visionops.dvc.source import copied
        from visionops.dvc.source_address import parse_address

        staging = home.cache() / "dvc"
        with copied(parse_address(source), staging, lambda done, of: progress("copied", done, of)) as copy:
            yield OpenedSource(copy.path, provenance=copy.provenance, must_be_copied=True)
        return
    if not source.startswith("s3://"):
        yield OpenedSource(named_path(source))
        return
    from resources.drop import Drop

    place, _, batch = source.rstrip("/").rpartition("/")
    if place in ("s3:/", "s3:"):
        raise Invalid(f"{source}: name a folder in the bucket, for example {source.rstrip('/')}/week-01")
    drop = Drop.from_environment()
    with drop.read(drop.open(place), batch, lambda done, of: progress("copied", done, of)) as reading:
        yield OpenedSource(reading.folder, reading.address, reading.check_unchanged)


def typed_options(stated: "Stated") -> tuple[str, ...]:
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


_COLUMNS, _SIDE = 5, 256


def _short(name: str) -> str:
    """A name with its end, in which names of many images differ."""
    return name if len(name) <= _LONGEST else f"…{name[-_LONGEST:]}"


def write_preview(source: "Source", folder: Path) -> None:
    """Write sheets of up to 60 images, evenly spread, and a page of them into a new folder, which is there whole or not
    at all.

    Raises FileExistsError for a folder with something else in it.
    """
    import numpy as np

    from edge.images.decode import decode_whole
    from edge.images.decode_pool import probe
    from edge.images.header import UnreadableImage
    from resources.safe_files import whole_folder
    from visionops.drawing import PALETTE
    from visionops_assets.common.findings import sides_of
    from visionops_assets.dataset.importing.box_coordinates import settled
    from visionops_assets.images.pictures import Captioned, Mark, contact_sheet, marked

    annotated = np.flatnonzero(source.images.annotated)
    chosen = source.images.take(
        annotated[np.linspace(0, len(annotated) - 1, min(SHOWN, len(annotated))).astype(int)]
    )
    readable, pixels, headers = [], [], []
    for place, image in enumerate(chosen):
        try:
            data = image.read()
            headers.append(probe(data, image.name))
            pixels.append(decode_whole(data, image.name, 3))
            readable.append(place)
        except (OSError, UnreadableImage):
            # The audit names it.
            headers = headers[: len(readable)]
    images = settled(
        chosen.take(np.array(readable, np.int64)),
        np.array([one.height for one in headers], np.int32),
        np.array([one.width for one in headers], np.int32),
        np.array([one.orientation for one in headers], np.uint8),
    ).images
    shown = []
    for image, values in zip(images, pixels, strict=True):
        boxes = image.boxes or ()
        colours = {box["label"]: PALETTE[zlib.crc32(box["label"].encode()) % len(PALETTE)] for box in boxes}
        scale = _SIDE / max(values.shape[:2])
        marks = [Mark(sides_of(box), box["label"], colours[box["label"]]) for box in boxes]
        drawn = np.asarray(marked(values, marks, scale))
        what = image.label or f"{len(boxes)} {'box' if len(boxes) == 1 else 'boxes'}"
        shown.append(Captioned(drawn, f"{what}: {_short(image.name.rpartition('/')[2])}"))
    title = f"{len(shown)} of {len(source.images):,} images ({html.escape(source.format)})"
    # An import that was ended after it had drawn them is typed again.
    with whole_folder(folder, or_the_same=True) as made:
        names = []
        for start in range(0, len(shown), _ON_A_SHEET):
            names.append(f"sheet-{start // _ON_A_SHEET + 1}.png")
            sheet = contact_sheet(shown[start : start + _ON_A_SHEET], _COLUMNS, _SIDE)
            (made / names[-1]).write_bytes(sheet)
        sheets = "".join(f'<p><img src="{name}" alt="{name}"></p>\n' for name in names)
        (made / "index.html").write_text(
            f'<!doctype html>\n<meta charset="utf-8">\n<title>{title}</title>\n{_STYLE}\n<h1>{title}</h1>\n{sheets}'
        )
