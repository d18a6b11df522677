"""Sheets of a source's images with their boxes drawn: the one check that shows a silent shift."""

import html
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from visionops_assets.dataset.importing.columns import Source

# A sheet is wider than many windows.
_STYLE = "<style>body { margin: 1rem; font-family: sans-serif } img { max-width: 100%; height: auto }</style>"
SHOWN = 60
_ON_A_SHEET = 20
_COLUMNS, _SIDE = 5, 256
_LONGEST = 28


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
    from resources.whole_outputs import whole_folder
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
