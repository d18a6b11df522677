"""Pictures of samples for people: thumbnails small enough for metadata, and contact sheets for reports."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from visionops_assets.dataset.decode import Pixels

# The UI loads all metadata of a page at once.
METADATA_BYTES = 50_000
_PAPER, _INK = (255, 255, 255), (40, 40, 40)
_CAPTION_HEIGHT, _GAP = 16, 6


class Captioned(NamedTuple):
    """An image, uint8 (H, W, 1 or 3), and what stands below it."""

    pixels: Pixels
    caption: str


def thumbnail(pixels: Pixels, side: int) -> bytes:
    """An image with its longer side `side` pixels, as PNG or JPEG, whichever is smaller.

    Small images are enlarged without smoothing, so that their pixels can be seen.
    """
    image = _within(pixels, side)
    encoded = []
    for format_name, options in (("PNG", {"optimize": True}), ("JPEG", {"quality": 80})):
        buffer = io.BytesIO()
        image.save(buffer, format_name, **options)
        encoded.append(buffer.getvalue())
    return min(encoded, key=len)


def data_uri(picture: bytes) -> str:
    """A PNG or JPEG as a `data:` address, which needs no server."""
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def thumbnails_markdown(images: Sequence[Captioned], side: int = 64, limit: int = METADATA_BYTES) -> str:
    """Thumbnails in a row as Markdown of at most `limit` bytes, as many of the images as fit."""
    parts: list[str] = []
    length = 0
    for pixels, caption in images:
        shown = "".join(character for character in caption if character not in "[]()\\\n`<>!")
        part = f"![{shown}]({data_uri(thumbnail(pixels, side))})"
        length += len(part.encode()) + 1
        if length > limit:
            break
        parts.append(part)
    return " ".join(parts)


def contact_sheet(images: Sequence[Captioned], columns: int = 10, side: int = 96) -> bytes:
    """All images in a grid with their captions, as PNG."""
    cell_width, cell_height = side + _GAP, side + _CAPTION_HEIGHT + _GAP
    rows = max(1, -(-len(images) // columns))
    sheet = Image.new("RGB", (min(columns, max(1, len(images))) * cell_width, rows * cell_height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(11)
    for number, (pixels, caption) in enumerate(images):
        left, top = number % columns * cell_width, number // columns * cell_height
        image = _within(pixels, side)
        sheet.paste(image, (left + (side - image.width) // 2, top + (side - image.height) // 2))
        draw.text((left, top + side), _fitting(caption, font, side), _INK, font)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _within(pixels: Pixels, side: int) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    scale = side / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR)


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
