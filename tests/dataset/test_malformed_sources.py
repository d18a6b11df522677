"""Whatever is wrong with a source of any format, what is said of it are words of ours, and few."""

import copy
import gzip
import io
import json
import pickle
import re
import struct
import tarfile
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.dataset.as_people_have_it import Files, check_said, coco, plan_of, voc
from visionops_assets.common.findings import findings_in_words
from visionops_assets.dataset.importing.image_source import SourceError
from visionops_assets.dataset.importing.statements import Stated

NAMES = [f"{number}.png" for number in range(3)]
# What Python, its parsers, Arrow, expat and PyYAML say of what they cannot read.
THEIRS = re.compile(
    r"\w+Error\b|Traceback|object at 0x|<class|NoneType|ArrowInvalid|not well-formed|line contains NUL|"
    r"Expecting|Unterminated|Extra data|Invalid (control|\\\\?escape)|object (has no attr|is not)|unhashable|argument|"
    r"codec|invalid literal|could not convert|index out of|not subscriptable|Errno|CRC|EOF|zlib|unpack requires|"
    r"unexpected end|"
    r"no element found|mismatched tag|undefined entity|unclosed|while (parsing|scanning)|mapping values|"
    r"expected (<|',' or|the node|alphabetic)|could not find|found (unexpected|character|undefined|duplicate|a tab)|"
    r"Parquet magic|deserializ|[Tt]hrift|Error -\d|gzipped|bad checksum|(invalid|bad|incorrect) header|[Bb]ad magic|"
    r"Decompress|compressed data|"
    r"End-of-stream|decompress|not a zip|Unsupported|Malformed|Invalid:|junk after|duplicate attribute|"
    r"prefix|out of range|buffer size|pickle data|stack underflow|float\(|int\(|has something where"
)


def said_of(source: Path, stated: Stated) -> str:
    """All that people read of a source: what refuses it, or what was found in it."""
    try:
        plan = plan_of(source, stated)
    except SourceError as error:
        return str(error)
    text = findings_in_words(plan.findings, most=len(plan.findings), lines=0)
    check_said(findings_in_words(plan.findings, lines=16) + plan.sums.in_words())
    assert plan.sums.add_up(), plan.sums.as_dict()
    return text


def check_words(source: Path) -> None:
    """Holds that what is said of a source is ours, whether what is wrong refuses it or is left out."""
    for stated in (Stated(), Stated(leave_out_errors=True)):
        text = said_of(source, stated)
        theirs = THEIRS.search(text.replace(str(source), ""))
        assert theirs is None, f"{theirs[0]!r} in: {text}"
        if not text.startswith(("ERROR", "WARN")):
            check_said(text)


# Values that stand where others were to stand.
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    1.5,
    1e400,
    10**30,
    "",
    "x",
    "\0",
    "\ud800",
    [],
    [[]],
    {},
    {"a": 1},
    [None, "x"],
)


def altered(value: Any) -> Iterator[Any]:
    """A tree of JSON with one part missing, or another in its place."""
    yield from ODD
    if isinstance(value, dict):
        for key in value:
            yield {one: other for one, other in value.items() if one != key}
            for changed in altered(value[key]):
                yield value | {key: changed}
    elif isinstance(value, list) and value:
        yield value[1:]
        yield [*value, copy.deepcopy(value[0])]
        for changed in altered(value[0]):
            yield [changed, *value[1:]]


def broken_bytes(content: bytes) -> Iterator[bytes]:
    """A file that is cut off, has bytes of others in it, or is another one."""
    yield from (b"", b" \n\n", b"\0" * 64, b"\xff\xfe", b"\xef\xbb\xbf", b"null", b"[]", b"{}", b"1", b'"')
    for part in (1, 2, 3):
        yield content[: len(content) * part // 4]
    yield content[:-2]
    half = len(content) // 2
    for odd in (
        b"\0",
        b"\xff",
        b"\xe9",
        b'"',
        b"<",
        b"&",
        b"&b;",
        b"{",
        b"]",
        b"\t",
        b"\r",
        b": ",
        b"'",
        b"\x80\x80",
    ):
        yield content[:half] + odd + content[half:]
        yield odd + content
    yield content + b"}"
    yield content + content
    yield bytes(reversed(content))
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return
    yield text.encode("utf-16")[:-1]
    yield text.encode("utf-16-le")
    yield text.encode("utf-32")
    yield b"\xef\xbb\xbf" + text.encode("utf-16")


def broken_json(content: bytes) -> Iterator[bytes]:
    for tree in altered(json.loads(content)):
        yield json.dumps(tree).encode()


def broken_lines(content: bytes) -> Iterator[bytes]:
    first, _, rest = content.partition(b"\n")
    for changed in broken_json(first):
        yield changed + b"\n" + rest


def broken_xml(content: bytes) -> Iterator[bytes]:
    """An element or attribute that is missing, empty, or says something odd."""
    for place in range(len(list(ElementTree.fromstring(content).iter()))):
        for odd in (None, "", "x", "-1", "nan", "1e999", "9" * 400):
            root = ElementTree.fromstring(content)
            one = list(root.iter())[place]
            if odd is None:
                for parent in root.iter():
                    if one in list(parent):
                        parent.remove(one)
            else:
                one.text = odd
            yield ElementTree.tostring(root)
            for key in one.attrib:
                if odd is None:
                    del one.attrib[key]
                else:
                    one.set(key, odd)
                yield ElementTree.tostring(root)
                break


def broken_fields(content: bytes) -> Iterator[bytes]:
    """A table or list of numbers with fields missing, too many, or odd."""
    text = content.decode()
    lines = text.splitlines()
    for row, line in enumerate(lines):
        for delimiter in {one for one in ", :=" if one in line}:
            fields = line.split(delimiter)
            for place in range(len(fields)):
                for odd in (
                    "",
                    "x",
                    "-1",
                    "nan",
                    "inf",
                    "1e999",
                    "9" * 400,
                    '"',
                    "'",
                    "[",
                    "{",
                    "../x",
                    "é",
                    "0;1",
                ):
                    other = delimiter.join([*fields[:place], odd, *fields[place + 1 :]])
                    yield "\n".join([*lines[:row], other, *lines[row + 1 :]]).encode()
                fewer = delimiter.join(fields[:place] + fields[place + 1 :])
                yield "\n".join([*lines[:row], fewer, *lines[row + 1 :]]).encode()
        yield "\n".join([*lines[:row], *lines[row + 1 :]]).encode()
        yield "\n".join([*lines[: row + 1], line, *lines[row + 1 :]]).encode()


def broken_table(content: bytes) -> Iterator[bytes]:
    """A column that is missing, or of another type."""
    table = pq.read_table(io.BytesIO(content))
    number = len(table)
    columns = [
        pa.array([None] * number, pa.null()),
        pa.array([1] * number),
        pa.array([1.5, float("nan"), None]),
        pa.array([True] * number),
        pa.array([b"\xff\0"] * number),
        pa.array([[1, 2]] * number),
        pa.array([["a", None]] * number),
        pa.array([{"a": 1}] * number),
        pa.array([[{"a": 1}]] * number),
        pa.array(["", None, "x"]),
        pa.array([0] * number, pa.timestamp("ns")),
        pa.array([0] * number, pa.date32()),
        pa.array(["a", "b", None]).dictionary_encode(),
        pa.array([[(1, "a")]] * number, pa.map_(pa.int64(), pa.string())),
        pa.array([[1.0, 2.0, 3.0, None]] * number, pa.list_(pa.float64(), 4)),
    ]
    made = [table.slice(0, 0), table.rename_columns([f"c{place}" for place in range(table.num_columns)])]
    for place, name in enumerate(table.column_names):
        made.append(table.drop_columns([name]))
        made += [table.set_column(place, name, column) for column in columns]
    for one in made:
        buffer = io.BytesIO()
        pq.write_table(one, buffer)
        yield buffer.getvalue()


def in_parquet(table: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(table), buffer)
    return buffer.getvalue()


def as_text(value: Any) -> bytes:
    return json.dumps(value).encode()


BOX = {"x": 5, "y": 10, "width": 20, "height": 30, "rectanglelabels": ["cat"]}
STUDIO = [
    {
        "id": n,
        "data": {"image": name},
        "annotations": [
            {
                "result": [
                    {"type": "rectanglelabels", "original_width": 32, "original_height": 24, "value": BOX}
                ]
            }
        ],
    }
    for n, name in enumerate(NAMES)
]
CHOICES = [
    {"data": {"image": name}, "annotations": [{"result": [{"type": "choices", "value": {"choices": [c]}}]}]}
    for name, c in zip(NAMES, "aab", strict=True)
]
POLYGONS = coco([(n, name, 32, 24) for n, name in enumerate(NAMES)], [(n, 1, (2, 3, 9, 8)) for n in range(3)])
POLYGONS["annotations"][0]["segmentation"] = [[1, 1, 9, 1, 9, 9]]
del POLYGONS["annotations"][0]["bbox"]
CVAT = (
    "<annotations><version>1.1</version>"
    + "".join(
        f'<image id="{n}" name="{name}" width="32" height="24" subset="train">'
        '<box label="cat" xtl="1" ytl="2" xbr="9" ybr="8" rotation="5"/><polygon label="cat" points="1,1;5,1;5,5"/>'
        "</image>"
        for n, name in enumerate(NAMES)
    )
    + "</annotations>"
)
JSON_LINES = b"\n".join(
    as_text({"file_name": name, "objects": {"bbox": [[1, 2, 3, 4]], "categories": ["cat"]}}) for name in NAMES
)
IDX = bytes([0, 0, 8, 3]) + struct.pack(">3I", 3, 4, 5) + bytes(range(60))
IDX_LABELS = bytes([0, 0, 8, 1]) + struct.pack(">I", 3) + bytes([0, 1, 0])
NOISE = np.random.default_rng(0).integers(0, 256, (3, 3072), np.uint8)
CIFAR = {b"data": NOISE, b"labels": [0, 1, 0], b"batch_label": b"x"}
Breaker = Callable[[bytes], Iterator[bytes]]
# The file that is broken, its content, what is broken of it besides bytes, and other files.
Case = tuple[str, bytes, Breaker | None, dict[str, bytes]]
TEXTS = {f"labels/{number}.txt": b"0 0.5 0.5 0.2 0.2\n" for number in range(3)}
YAML = b"path: .\ntrain: images\nval: images\nnc: 2\nnames: [cat, dog]\n"
CASES: dict[str, Case] = {
    "coco": (
        "a.json",
        as_text(
            coco(
                [(n, name, 32, 24) for n, name in enumerate(NAMES)], [(n, 1, (2, 3, 9, 8)) for n in range(3)]
            )
        ),
        broken_json,
        {},
    ),
    "coco polygons": ("a.json", as_text(POLYGONS), broken_json, {}),
    "cvat": ("annotations.xml", CVAT.encode(), broken_xml, {}),
    "label studio": ("tasks.json", as_text(STUDIO), broken_json, {}),
    "label studio choices": ("tasks.json", as_text(CHOICES), broken_json, {}),
    "voc": ("xml/0.xml", voc("0.png", ("cat", 2, 3, 9, 8), size=(32, 24)).encode(), broken_xml, {}),
    "yolo": ("labels/0.txt", TEXTS["labels/0.txt"], broken_fields, TEXTS | {"data.yaml": YAML}),
    "yolo settings": ("data.yaml", YAML, broken_fields, TEXTS),
    "csv": ("labels.csv", b"path,label,split\n0.png,a,train\n1.png,b,val\n2.png,a,\n", broken_fields, {}),
    "boxes csv": (
        "labels.csv",
        b"path,label,xmin,ymin,xmax,ymax\n0.png,cat,1,2,9,8\n1.png,dog,0,0,5,5\n2.png,dog,0,0,5,5\n",
        broken_fields,
        {},
    ),
    "columns of classes": (
        "_classes.csv",
        b"filename,a,b\n0.png,1,0\n1.png,0,1\n2.png,0,1\n",
        broken_fields,
        {},
    ),
    "json lines": ("metadata.jsonl", JSON_LINES, broken_lines, {}),
    "parquet": ("labels.parquet", in_parquet({"path": NAMES, "label": list("aba")}), broken_table, {}),
    "parquet boxes": (
        "labels.parquet",
        in_parquet(
            {
                "path": NAMES,
                "boxes": [[{"x": 2.0, "y": 1.0, "w": 3.0, "h": 10.0, "label": "cat"}]] * 3,
            }
        ),
        broken_table,
        {},
    ),
    "idx": ("train-images-idx3-ubyte", IDX, None, {"train-labels-idx1-ubyte": IDX_LABELS}),
    "idx labels": ("train-labels-idx1-ubyte", IDX_LABELS, None, {"train-images-idx3-ubyte": IDX}),
    "packed idx": (
        "train-images-idx3-ubyte.gz",
        gzip.compress(IDX),
        None,
        {"train-labels-idx1-ubyte": IDX_LABELS},
    ),
    "cifar": (
        "data_batch_1",
        pickle.dumps(CIFAR, protocol=2),
        None,
        {"batches.meta": pickle.dumps({b"label_names": [b"cat", b"dog"]}, protocol=2)},
    ),
    "cifar binary": (
        "data_batch_1.bin",
        b"".join(b"\0" + one.tobytes() for one in NOISE),
        None,
        {"batches.meta.txt": b"cat\ndog\n"},
    ),
    "cifar names": (
        "batches.meta.txt",
        b"cat\ndog\n",
        None,
        {"data_batch_1.bin": b"".join(b"\0" + one.tobytes() for one in NOISE)},
    ),
    "names": ("classes.txt", b"cat\ndog\n", broken_fields, TEXTS),
}


def packed(kind: str) -> bytes:
    """An archive with two classes of images."""
    files, buffer = Files(Path("packed")), io.BytesIO()
    images = {f"{label}/{n}.png": files.png() for label in "ab" for n in range(2)}
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in images.items():
                archive.writestr(name, content)
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode=f"w:{kind}") as tar:  # type: ignore[call-overload]
        for name, content in images.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


ARCHIVES = (".zip", ".gz", ".xz", ".bz2", ".tar")
CASES |= {
    "zip": ("d.zip", packed("zip"), None, {}),
    "tar": ("d.tar", packed(""), None, {}),
    **{f"tar.{kind}": (f"d.tar.{kind}", packed(kind), None, {}) for kind in ("gz", "bz2", "xz")},
}


def broken(case: Case) -> Iterator[bytes]:
    _, content, breaker, _ = case
    yield from broken_bytes(content)
    if breaker is not None:
        yield from breaker(content)


def lay_out(name: str, root: Path) -> Path:
    """Write a source that is right into a new folder; returns the file that is to be broken."""
    place, content, _, others = CASES[name]
    files = Files(root)
    files.root.mkdir()
    if not any(word in name for word in ("idx", "cifar", "zip", "tar")):
        among = place.startswith(("data", "labels/", "classes"))
        folder = "JPEGImages/" if name == "voc" else "images/" if among else ""
        files.images(*(f"{folder}{one}" for one in NAMES))
    for other, text in others.items():
        files.text(other, text)
    files.text(place, content)
    return root / place


def source_of(name: str, file: Path, root: Path) -> Path:
    """What is given to be read: an archive, or the folder."""
    return file if file.suffix in ARCHIVES and name != "packed idx" else root


def some(made: list[bytes], number: int) -> list[bytes]:
    """So many of all that is broken, evenly chosen."""
    return made[:: max(1, len(made) // number)]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_told_in_words_of_ours(tmp_path, name, count):
    file = lay_out(name, tmp_path / "source")
    source = (
        file
        if file.suffix in ARCHIVES
        else file.parent
        if file.parent == tmp_path / "source"
        else file.parent.parent
    )
    assert not said_of(source, Stated()).startswith("ERROR")
    made = list(dict.fromkeys(broken(CASES[name])))
    for content in some(made, count(4, len(made))):
        file.write_bytes(content)
        check_words(source)
