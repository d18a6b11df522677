"""Altered annotations and archives of every format are read, or refused as a source; nothing else is raised."""

import bz2
import gzip
import io
import json
import lzma
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mutation import (
    Within,
    all_hold,
    altered_json,
    altered_xml,
    behind_its_footer,
    bounded_memory,
    many,
    mutated,
)
from PIL import Image

from visionops_assets.dataset.importing.image_source import SourceError
from visionops_assets.dataset.importing.reading import read_source
from visionops_assets.dataset.importing.statements import NOTHING_STATED, Stated

pytestmark = pytest.mark.timeout(2700)


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


IMAGES = {f"{number}.png": png(number * 60) for number in range(3)}


class Kind(NamedTuple):
    """A source in `format` of images in `images` of which one file, at `place`, is altered, also `within` what its
    checks hold; `others` lie beside it."""

    format: str
    place: str
    content: bytes
    images: str = "images"
    others: tuple[tuple[str, bytes], ...] = ()
    words: tuple[bytes, ...] = ()
    within: Within | None = None


def coco() -> bytes:
    images = [{"id": n, "file_name": name, "width": 20, "height": 10} for n, name in enumerate(IMAGES)]
    boxes = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [1, 2, 5.5, 4], "iscrowd": 0} for n in range(3)
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    return json.dumps({"images": images, "annotations": boxes, "categories": categories}).encode()


def voc() -> bytes:
    return (
        b'<?xml version="1.0"?><annotation><filename>0.png</filename><size><width>20</width><height>10</height>'
        b"<depth>3</depth></size><object><name>cat</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin>"
        b"<xmax>9</xmax><ymax>8</ymax></bndbox></object></annotation>"
    )


def table() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(
        pa.table({"path": list(IMAGES), "label": ["cat", "dog", "cat"], "split": ["train"] * 3}), buffer
    )
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in IMAGES.items():
            member = tarfile.TarInfo(f"cat/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def with_right_sums(data: bytes) -> bytes:
    """A tar whose headers have the checksums of what is in them."""
    found = bytearray(data)
    for place in range(0, len(found) - 511, 512):
        header = found[place : place + 512]
        if header[257:262] == b"ustar":
            header[148:156] = b" " * 8
            found[place + 148 : place + 156] = b"%06o\0 " % sum(header)
    return bytes(found)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in IMAGES.items():
            archive.writestr(f"cat/{name}", content)
    return buffer.getvalue()


def images_in_table() -> bytes:
    buffer = io.BytesIO()
    images = [{"bytes": content, "path": name} for name, content in IMAGES.items()]
    pq.write_table(pa.table({"image": images, "label": ["cat", "dog", "cat"]}), buffer)
    return buffer.getvalue()


def cvat() -> bytes:
    images = "".join(
        f'<image id="{number}" name="{name}" width="20" height="10" subset="train">'
        '<box label="cat" xtl="1" ytl="2" xbr="9" ybr="8" rotation="5"/><tag label="dog"/></image>'
        for number, name in enumerate(IMAGES)
    )
    return f"<annotations><version>1.1</version>{images}</annotations>".encode()


LINES = "".join(
    json.dumps({"file_name": name, "objects": {"bbox": [[1, 2, 3, 4]], "categories": ["cat"]}}) + "\n"
    for name in IMAGES
).encode()
IDX = bytes([0, 0, 8, 3]) + struct.pack(">3I", 3, 4, 5) + bytes(range(60))
IDX_LABELS = bytes([0, 0, 8, 1]) + struct.pack(">I", 3) + bytes([0, 1, 0])
LABELS = tuple((f"labels/{number}.txt", b"0 0.5 0.5 0.2 0.2\n") for number in range(3))
YAML = b"path: .\ntrain: images\nval: images\nnc: 2\nnames: [cat, dog]\n"
JSON_WORDS = (
    b"null",
    b"[",
    b"]",
    b"{",
    b"}",
    b'"id": 1,',
    b"1e999",
    b"NaN",
    b"-1",
    b'"\\ud800"',
    b"1" * 400,
    b"\0",
)
YAML_WORDS = (
    b"&a ", b"*a", b"<<: *a\n", b"!!python/object:os.system ", b"[", b"{", b"- ", b"? ", b"2001-01-01", b"0x1F", b"'",
    b"|\n", b"../..",
)  # fmt: skip
XML_WORDS = (b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"<object>", b"</object>", b"<name/>", b"nan", b"\0")
CSV_WORDS = (b'"', b",", b"\n", b"\r", b"\0", b"../", b"\xff", b";", b"\t")
ARCHIVE_WORDS = (
    b"PK\3\4", b"PK\1\2", b"PK\5\6", b"ustar\x0000", b"ustar  \0", b"././@LongLink", b"\x80" + b"\xff" * 11,
    b"30 path=../../x\n", b"22 GNU.sparse.major=1\n", b"../", b"\0" * 512,
)  # fmt: skip
NUMBER_WORDS = (b"nan ", b"inf ", b"-1 ", b"1e99 ", b"\0")
STUDIO = json.dumps(
    [
        {
            "data": {"image": name},
            "annotations": [
                {
                    "result": [
                        {
                            "type": "rectanglelabels", "original_width": 20, "original_height": 10,
                            "value": {"x": 5, "y": 10, "width": 20, "height": 30, "rectanglelabels": ["cat"]},
                        }
                    ]
                }
            ],
        }
        for name in IMAGES
    ]
).encode()  # fmt: skip
CORNERS = b"path,label,xmin,ymin,xmax,ymax\n0.png,cat,1,2,9,8\n1.png,dog,0,0,5,5\n"
TABLE = b"path,label,split,group\n0.png,cat,train,a\n1.png,dog,val,b\n2.png,cat,,c\n"
BOXES = b"0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.1 0.1\n"


def as_json(content: bytes) -> Within:
    return lambda generator: json.dumps(altered_json(generator, json.loads(content))).encode()


def as_json_lines(generator: random.Random) -> bytes:
    rows = [altered_json(generator, json.loads(line)) for line in LINES.splitlines()]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


KINDS = {
    "coco": Kind("coco", "annotations.json", coco(), words=JSON_WORDS, within=as_json(coco())),
    "yolo": Kind("yolo", "labels/0.txt", BOXES, others=(("data.yaml", YAML), *LABELS[1:]), words=NUMBER_WORDS),
    "yaml": Kind("yolo", "data.yaml", YAML, others=LABELS, words=YAML_WORDS),
    "voc": Kind(
        "voc", "Annotations/0.xml", voc(), "JPEGImages", words=XML_WORDS,
        within=lambda generator: altered_xml(generator, voc()),
    ),
    "csv": Kind("table", "labels.csv", TABLE, words=CSV_WORDS),
    "label studio": Kind("label-studio", "export.json", STUDIO, words=JSON_WORDS, within=as_json(STUDIO)),
    "boxes": Kind("table", "labels.csv", CORNERS, words=(*CSV_WORDS, *NUMBER_WORDS, b"1" * 400)),
    "parquet": Kind("table", "labels.parquet", table(), within=behind_its_footer(table())),
    "images in parquet": Kind(
        "table", "train.parquet", images_in_table(), "", within=behind_its_footer(images_in_table())
    ),
    "cvat": Kind(
        "cvat", "annotations.xml", cvat(), words=XML_WORDS, within=lambda generator: altered_xml(generator, cvat())
    ),
    "json lines": Kind("table", "metadata.jsonl", LINES, words=(*JSON_WORDS, b"\n"), within=as_json_lines),
    "idx": Kind("mnist", "train-images-idx3-ubyte", IDX, "", (("train-labels-idx1-ubyte", IDX_LABELS),)),
    "packed idx": Kind(
        "mnist", "train-images-idx3-ubyte.gz", gzip.compress(IDX), "", (("train-labels-idx1-ubyte", IDX_LABELS),),
        within=lambda generator: gzip.compress(mutated(generator, [IDX]), 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_altered_annotations_are_read_or_refused(kind: str, tmp_path: Path, count: Callable[[int, int], int]):
    format, place, content, images, others, words, within = KINDS[kind]
    if place.startswith("labels."):
        images = "."
    files = {f"{images}/{name}": image for name, image in IMAGES.items() if images}
    for name, other in {**files, **dict(others), place: content}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(other)
    assert read_source(tmp_path).format == format

    def read_or_refused(data: bytes) -> None:
        (tmp_path / place).write_bytes(data)
        # Where it is no longer taken for what it is, it may still be said to be that.
        if not read(tmp_path):
            read(tmp_path, Stated(format=format))

    with bounded_memory(1 << 30):
        assert all_hold(kind, many(4, count(60, 10_000), [content], words, within), read_or_refused)


PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".tar": bytes,
    ".tar.gz": lambda content: gzip.compress(content, 1),
    ".tar.bz2": bz2.compress,
    ".tar.xz": lambda content: lzma.compress(content, preset=0),
}


@pytest.mark.parametrize("suffix", [*PACKED, ".zip"])
def test_altered_archives_are_read_or_refused(suffix: str, tmp_path: Path, count: Callable[[int, int], int]):
    archive, within = tmp_path / f"source{suffix}", None
    if suffix == ".zip":
        content = zipped()
    else:
        plain, pack = tar(), PACKED[suffix]
        content = pack(plain)

        def within(generator: random.Random) -> bytes:
            return pack(with_right_sums(mutated(generator, [plain], ARCHIVE_WORDS)))

    archive.write_bytes(content)
    assert len(read_source(archive).images) == len(IMAGES)

    def read_or_refused(data: bytes) -> None:
        archive.write_bytes(data)
        read(archive)

    with bounded_memory(1 << 30):
        inputs = many(5, count(40, 10_000), [content], ARCHIVE_WORDS, within)
        assert all_hold(suffix[1:], inputs, read_or_refused)


def read(source: Path, stated: Stated = NOTHING_STATED) -> bool:
    """Whether it is read; else it is refused."""
    try:
        for image in read_source(source, stated).images:
            assert isinstance(image.name, str)
        return True
    except SourceError as refused:
        assert 0 < len(str(refused)) < 3000
        return False
