"""Pictures of samples for people: thumbnails small enough for metadata, contact sheets, and images with their boxes."""

import base64
import importlib.util
import io
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edge.images.decode import Pixels
from resources.escaping import LONGEST_NAME, markdown, one_line

# The UI loads all metadata of a page at once.
METADATA_BYTES = 50_000
# The longer side of a thumbnail in pixels, and how many stand beside each other.
THUMBNAIL, _IN_A_ROW = 96, 6
_PAPER, _INK = (255, 255, 255), (40, 40, 40)
_CAPTION_HEIGHT, _GAP = 16, 6
# The longer side of an image that is looked at alone; of a long one the shorter side stays at least so long.
LEAST_SIDE, MOST_SIDE, _LEAST_SHORTER = 256, 512, 64
# Below this the pixels themselves are what there is to see.
_FEW_PIXELS = 128

Colour = tuple[int, int, int]
TRUTH: Colour = (60, 220, 90)
ANSWER: Colour = (255, 80, 60)


class Captioned(NamedTuple):
    """An image, uint8 (H, W, 1 or 3), and what stands below it."""

    pixels: Pixels
    caption: str


class Mark(NamedTuple):
    """A box (`x`, `y`, `w`, `h` in pixels of the image) and what stands at it."""

    box: Mapping[str, float]
    text: str
    colour: Colour = TRUTH


def viewing_scale(height: int, width: int) -> float:
    """How much to enlarge or reduce an image to look at it: to between 256 and 512 pixels, tiny ones by whole numbers,
    long ones only as far as their shorter side can be seen."""
    longer, shorter = max(height, width), min(height, width)
    if longer < _FEW_PIXELS:
        return float(math.ceil(LEAST_SIDE / longer))
    if longer < LEAST_SIDE:
        return LEAST_SIDE / longer
    return min(1.0, max(MOST_SIDE / longer, _LEAST_SHORTER / shorter))


def marked(pixels: Pixels, marks: Sequence[Mark] = (), scale: float | None = None) -> Image.Image:
    """An image, uint8 (H, W, 1 or 3), at a scale to look at, with boxes drawn on it."""
    height, width = pixels.shape[:2]
    chosen = viewing_scale(height, width) if scale is None else scale
    image = _scaled(pixels, chosen).convert("RGB")
    longer = max(image.size)
    pen, font = ImageDraw.Draw(image), _font(max(13, longer // 60) if longer >= LEAST_SIDE else 10)
    for mark in marks:
        _draw(pen, image.size, mark, chosen, font)
    return image


def written_under(image: Image.Image, lines: Sequence[str]) -> Image.Image:
    """An image on paper with lines of text under it."""
    width = max(image.width, LEAST_SIDE)
    size = max(14, width // 60)
    font, step = _font(size), round(size * 1.4)
    sheet = Image.new("RGB", (width, image.height + step * len(lines) + _GAP), _PAPER)
    sheet.paste(image.convert("RGB"), ((width - image.width) // 2, 0))
    pen = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        pen.text((4, image.height + 4 + step * number), _fitting(line, font, width - 8), _INK, font)
    return sheet


def encoded(image: Image.Image) -> bytes:
    """An image as PNG or JPEG, whichever is smaller."""
    found = []
    for format_name, options in (("PNG", {"optimize": True}), ("JPEG", {"quality": 80})):
        buffer = io.BytesIO()
        image.save(buffer, format_name, **options)
        found.append(buffer.getvalue())
    return min(found, key=len)


def thumbnail(pixels: Pixels, side: int) -> bytes:
    """An image with its longer side `side` pixels, as PNG or JPEG, whichever is smaller.

    Small images are enlarged without smoothing, so that their pixels can be seen.
    """
    return encoded(_within(pixels, side))


def kind_of(picture: bytes) -> Literal["png", "jpeg"]:
    """Which of the two `encoded` chose."""
    return "png" if picture.startswith(b"\x89PNG") else "jpeg"


def data_uri(picture: bytes) -> str:
    """A PNG or JPEG as a `data:` address, which needs no server."""
    return f"data:image/{kind_of(picture)};base64,{base64.b64encode(picture).decode()}"


def thumbnails_markdown(
    images: Sequence[Captioned], side: int = THUMBNAIL, limit: int = METADATA_BYTES
) -> str:
    """A Markdown table of thumbnails with their captions below, of at most `limit` bytes: as many as fit."""
    shown: list[tuple[str, str]] = []
    length = 2 * len("|---") * _IN_A_ROW
    for pixels, caption in images:
        text = one_line(" ".join(caption.split()), LONGEST_NAME)
        alt = markdown("".join(character for character in text if character not in "[]()\\`<>!|"))
        cells = (f"![{alt}]({data_uri(thumbnail(pixels, side))})", markdown(text))
        length += sum(len(cell.encode()) + 1 for cell in cells) + 2
        if length > limit:
            break
        shown.append(cells)
    rows = [shown[start : start + _IN_A_ROW] for start in range(0, len(shown), _IN_A_ROW)]
    lines = [f"|{'|'.join(cell[part] for cell in row)}|" for row in rows for part in (0, 1)]
    if lines:
        lines.insert(1, "|---" * len(rows[0]) + "|")
    return "\n".join(lines)


def contact_sheet(images: Sequence[Captioned], columns: int = 10, side: int = 96) -> bytes:
    """All images in a grid with their captions, as PNG."""
    cell_width, cell_height = side + _GAP, side + _CAPTION_HEIGHT + _GAP
    rows = max(1, -(-len(images) // columns))
    sheet = Image.new("RGB", (min(columns, max(1, len(images))) * cell_width, rows * cell_height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = _font(11)
    for number, (pixels, caption) in enumerate(images):
        left, top = number % columns * cell_width, number // columns * cell_height
        image = _within(pixels, side)
        sheet.paste(image, (left + (side - image.width) // 2, top + (side - image.height) // 2))
        draw.text((left, top + side), _fitting(caption, font, side), _INK, font)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _draw(
    pen: ImageDraw.ImageDraw,
    size: tuple[int, int],
    mark: Mark,
    scale: float,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """A frame that is seen on any ground, and its text on the colour of the frame, inside of the picture."""
    left, top = mark.box["x"] * scale, mark.box["y"] * scale
    right, bottom = left + max(1.0, mark.box["w"] * scale), top + max(1.0, mark.box["h"] * scale)
    pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=_INK)
    thick = max(2, max(size) // 400) if max(size) >= LEAST_SIDE else 1
    pen.rectangle((left, top, right, bottom), outline=mark.colour, width=thick)
    if not mark.text:
        return
    text = _fitting(mark.text, font, size[0] - 4)
    width, height = math.ceil(font.getlength(text)) + 4, round(getattr(font, "size", 11) * 1.3)
    x = min(max(0.0, left), max(0.0, size[0] - width))
    y = top - height if top >= height else min(max(0.0, bottom), max(0.0, size[1] - height))
    pen.rectangle((x, y, x + width, y + height), fill=mark.colour)
    red, green, blue = mark.colour
    ink = (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else _PAPER
    pen.text((x + 2, y + height / 2), text, ink, font, anchor="lm")


def _within(pixels: Pixels, side: int) -> Image.Image:
    return _scaled(pixels, side / max(pixels.shape[:2]))


def _scaled(pixels: Pixels, scale: float) -> Image.Image:
    """An image enlarged or reduced; what is enlarged much keeps the edges of its pixels."""
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    if scale == 1:
        return image
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    if scale < 1:
        return image.resize(size, Image.Resampling.BILINEAR)
    crisp = max(image.size) < _FEW_PIXELS
    return image.resize(size, Image.Resampling.NEAREST if crisp else Image.Resampling.BICUBIC)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans, which comes with matplotlib: Pillow's own font lacks even the letters of Europe."""
    spec = importlib.util.find_spec("matplotlib")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        file = Path(place) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if file.is_file():
            return ImageFont.truetype(str(file), size)
    return ImageFont.load_default(size)


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    # No glyph is less than a pixel wide.
    text = one_line(" ".join(text.split()))[: max(1, width)]
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
