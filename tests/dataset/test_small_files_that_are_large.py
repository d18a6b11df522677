"""Files of a few kilobytes that would be gigabytes once they are read: refused in one line that names file, limit and
setting, by processes that never take much."""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import re
import resource
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edge.images import bounds
from resources.home import ROOT
from tests.dataset.as_people_have_it import Files
from visionops_assets.dataset.importing import parquet_process, source_files
from visionops_assets.dataset.importing.archives import Unpacked
from visionops_assets.dataset.importing.formats.json_and_xml import read_xml
from visionops_assets.dataset.importing.formats.yolo_settings import read_yaml
from visionops_assets.dataset.importing.image_source import SourceError
from visionops_assets.dataset.importing.reading import read_source
from visionops_assets.dataset.importing.source_files import SourceFile

Make = Callable[[Path], Path]
MIB = 1 << 20

# A process of its own, whose memory and processor time the test reads when it has ended.
READ = """
import sys
from pathlib import Path
from visionops_assets.dataset.importing.reading import read_source
from visionops_assets.dataset.importing.image_source import SourceError
try:
    read_source(Path(sys.argv[1]))
    print("read")
except SourceError as error:
    print(error)
# Of this program alone: what the system says of a child counts the process that it was forked from.
(peak,) = (line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
print(peak, file=sys.stderr)
"""


def tar_of(pack: Callable[[], object], suffix: str, header: bytes, megabytes: int) -> Make:
    def make(folder: Path) -> Path:
        packer = pack()
        parts = [packer.compress(header)]  # type: ignore[attr-defined]
        parts += [packer.compress(bytes(MIB)) for _ in range(megabytes)]  # type: ignore[attr-defined]
        archive = folder / f"data.tar.{suffix}"
        archive.write_bytes(b"".join([*parts, packer.flush()]))  # type: ignore[attr-defined]
        return archive

    return make


def header_of(size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo("a/0.png")
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def sparse_header() -> bytes:
    """A sparse file whose map of holes goes on in one block after the other."""
    member = bytearray(header_of(1 << 30, tarfile.GNUTYPE_SPARSE))
    member[482] = 1
    member[148:156] = b" " * 8
    member[148:156] = b"%06o\0 " % sum(member)
    block = (b"%011o\0" % 1 * 42).ljust(504, b"\0") + b"\1" + bytes(7)
    return bytes(member) + block * 40_000


def zip_of(write: Callable[[zipfile.ZipFile], object]) -> Make:
    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "data.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            write(archive)
        return folder / "data.zip"

    return make


def many_zeros(archive: zipfile.ZipFile) -> None:
    with archive.open("a/0.png", "w", force_zip64=True) as member:
        for _ in range(300):
            member.write(bytes(MIB))


def overlapping(folder: Path) -> Path:
    """Many names in the directory of a zip for the bytes of one."""
    made = zip_of(lambda archive: archive.writestr("a/0.png", bytes(50 * MIB)))(folder)
    with zipfile.ZipFile(made, "a") as archive:
        one = archive.infolist()[0]
        for number in range(1000):
            other = zipfile.ZipInfo(f"a/{number + 1}.png")
            for name in ("header_offset", "compress_size", "file_size", "CRC", "compress_type"):
                setattr(other, name, getattr(one, name))
            archive.filelist.append(other)
        archive._didModify = True  # type: ignore[attr-defined]
    return made


def mnist(shape: tuple[int, ...], megabytes: int, labels: int = 3) -> Make:
    def make(folder: Path) -> Path:
        head = bytes([0, 0, 8, 3]) + struct.pack(">3I", *shape)
        content = b"".join([head, *(bytes(MIB) for _ in range(megabytes))])
        (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
        few = bytes([0, 0, 8, 1]) + struct.pack(">I", labels) + bytes(labels)
        (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(few))
        return folder

    return make


def parquet(table: Callable[[], pa.Table], **options: object) -> Make:
    def make(folder: Path) -> Path:
        pq.write_table(table(), folder / "labels.parquet", compression="zstd", **options)
        return folder

    return make


def one_text(length: int, rows: int, column: str) -> Callable[[], pa.Table]:
    def make() -> pa.Table:
        long = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * length]))
        short = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["0.png"]))
        return pa.table({"path": short, "label": short} | {column: long})

    return make


def image_bytes() -> pa.Table:
    images = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array([bytes(MIB)]))
    return pa.table({"image": images, "label": pa.array(["a"] * 2000)})


def in_file(name: str, content: Callable[[], bytes]) -> Make:
    def make(folder: Path) -> Path:
        files = Files(folder)
        files.classes("images", each=2)
        if name == "data.yaml":
            files.text("labels/0.txt", "0 0.5 0.5 0.2 0.2\n")
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content())
        return folder

    return make


def aliases() -> bytes:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    return "\n".join([*lines, "names: *a8", "train: images"]).encode()


def laughs(before: bytes = b"", encoding: str = "utf-8") -> bytes:
    entities = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    declared = f'<?xml version="1.0" encoding="{encoding}"?>'
    document = f"<!DOCTYPE annotation [{entities}]><annotation><filename>&a9;</filename></annotation>"
    return (declared + before.decode() + document).encode(encoding)


BOMBS: dict[str, tuple[Make, str]] = {
    "long name": (
        tar_of(bz2.BZ2Compressor, "bz2", header_of(3 << 30, tarfile.GNUTYPE_LONGNAME), 20),
        r"has a header of more than 1,048,576 bytes.*VISIONOPS_SOURCE_HEADER_KIB",
    ),
    "pax header": (
        tar_of(lzma.LZMACompressor, "xz", header_of(3 << 30, tarfile.XHDTYPE), 20),
        r"has a header of more than .*VISIONOPS_SOURCE_HEADER_KIB",
    ),
    "sparse map": (
        tar_of(bz2.BZ2Compressor, "bz2", sparse_header(), 0),
        r"has a header of more than .*VISIONOPS_SOURCE_HEADER_KIB",
    ),
    "large member": (
        tar_of(bz2.BZ2Compressor, "bz2", header_of(700 * MIB), 20),
        r"unpacks to more than [\d,]+ bytes.*VISIONOPS_SOURCE_TIMES",
    ),
    "zip of zeros": (zip_of(many_zeros), r"unpacks to more than .*VISIONOPS_SOURCE_TIMES"),
    "zip that overlaps": (overlapping, r"unpacks to more than .*VISIONOPS_SOURCE_TIMES"),
    "zip of deep folders": (
        zip_of(lambda archive: archive.writestr("a/" * 30_000 + "0.png", b"")),
        r"has the name 'a/a/.*VISIONOPS_SOURCE_DEPTH",
    ),
    "idx that promises little": (mnist((3, 28, 28), 100), r"holds more, its header says"),
    "idx that promises much": (
        mnist((1000, 1000, 1000), 10),
        r"1000 × 1000 × 1000 values, which is not believed.*VISIONOPS_SOURCE_TIMES",
    ),
    "idx of nothing": (mnist((4_000_000_000, 0, 0), 0), r"not believed.*VISIONOPS_SOURCE_TIMES"),
    "parquet of one long text": (
        parquet(one_text(MIB, 100_000, "note")),
        r"labels.parquet: has more than .* bytes once it is plain.*VISIONOPS_SOURCE_TIMES",
    ),
    "parquet of many rows": (
        parquet(one_text(1, 3_000_000, "note")),
        r"labels.parquet: has more than .* rows.*VISIONOPS_SOURCE_TIMES",
    ),
    "parquet of one image": (
        parquet(image_bytes),
        r"labels.parquet: (has more than|takes more).*VISIONOPS_SOURCE_(TIMES|TABLE_MIB)",
    ),
    "yaml of aliases": (in_file("data.yaml", aliases), r"data.yaml: line 2 has the alias '\*a0'"),
    "yaml that is long": (
        in_file("data.yaml", lambda: b"names: [" + b"[]," * (3 * MIB) + b"]\n"),
        r"data.yaml: has more than 1,048,576 bytes.*VISIONOPS_SOURCE_SETTINGS_KIB",
    ),
    "yaml that is deep": (
        in_file("data.yaml", lambda: b"names: " + b"[" * 500 + b"]" * 500),
        r"data.yaml: nests more than 100 deep.*VISIONOPS_SOURCE_DEPTH",
    ),
    "xml of entities": (in_file("labels/0.xml", laughs), "declares entities"),
    "xml of late entities": (
        in_file("labels/0.xml", lambda: laughs(b"<!-- <annotation> -->" + b" " * 200_000)),
        "declares entities",
    ),
    "xml that is deep": (
        in_file("labels/0.xml", lambda: b"<annotation>" * 2_000_000),
        r"nests more than 100 deep.*VISIONOPS_SOURCE_DEPTH",
    ),
    "csv of one field": (
        in_file("labels.csv", lambda: b"path,label\n" + b"x" * (17 * MIB)),
        r"labels.csv: line 2 has more than .*VISIONOPS_SOURCE_VALUE_MIB",
    ),
    "csv of many columns": (
        in_file("labels.csv", lambda: ",".join(map(str, range(500_000))).encode()),
        r"labels.csv: has 500,000 columns.*VISIONOPS_SOURCE_COLUMNS",
    ),
    "json of one value": (
        in_file(
            "a.json",
            lambda: b'{"images": [], "annotations": [], "categories": [], "info": "' + b"x" * (40 * MIB) + b'"}',
        ),
        r"a.json: has a value of more than .*VISIONOPS_SOURCE_VALUE_MIB",
    ),
    "json that is deep": (
        in_file("a.json", lambda: b'{"images": [], "categories": [], "annotations": ' + b'[' * MIB),
        r"a.json: nests more than 100 deep.*VISIONOPS_SOURCE_DEPTH",
    ),
    "json that is deeper than stated, not than is read": (
        in_file(
            "a.json", lambda: b'{"images": [], "categories": [], "annotations": ' + b"[" * 103 + b"]" * 103 + b"}"
        ),
        r"a.json: nests more than 100 deep.*VISIONOPS_SOURCE_DEPTH",
    ),
    "json lines that are deep": (
        in_file("metadata.jsonl", lambda: b'{"file_name": ' + b"[" * MIB + b"\n"),
        r"metadata.jsonl: line 1: nests more than 100 deep.*VISIONOPS_SOURCE_DEPTH",
    ),
    "json lines that are deeper than stated": (
        in_file("metadata.jsonl", lambda: b'{"file_name": ' + b'{"a": ' * 100 + b"1" + b"}" * 101 + b"\n"),
        r"metadata.jsonl: line 1: nests more than 100 deep.*VISIONOPS_SOURCE_DEPTH",
    ),
    "json in a table that is deep": (
        in_file("labels.csv", lambda: b'path,label,bbox_xywh\n0.png,a,"' + b"[" * 100_000 + b'"\n'),
        r"labels.csv, row 2: nests more than 100 deep.*VISIONOPS_SOURCE_DEPTH",
    ),
    "json in a parquet footer that is deep": (
        parquet(lambda: pa.table({"path": ["0.png"], "label": ["a"]}).replace_schema_metadata(
            {"huggingface": '{"info": {"features": ' + "[" * 5000})),
        r"labels.parquet: `huggingface` in its metadata: nests more than 100 deep.*VISIONOPS_SOURCE_DEPTH",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOMBS)
def test_what_is_small_and_would_be_large_is_refused_by_name(kind: str, tmp_path: Path):
    make, expected = BOMBS[kind]
    folder = tmp_path / "data"
    folder.mkdir()
    source = make(folder)

    def limited() -> None:
        # What is needed to start is mapped beside it.
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))

    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", READ, str(source)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        preexec_fn=limited,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        said, peak = process.stdout.read().decode().strip(), process.stderr.read().decode()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, peak
    assert re.search(expected, said) and "\n" not in said and len(said) < 600, said[:2000]
    assert int(peak.split()[-1]) << 10 < 1 << 30
    assert used.ru_utime + used.ru_stime < 10 + 3, "three seconds are for its start"
    assert not list(tmp_path.glob("visionops-unpacked-*"))


def test_packed_files_as_people_have_them_are_unpacked(tmp_path: Path):
    files = Files(tmp_path / "data")
    files.classes("a", "b")
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        archive = tmp_path / f"data.tar{mode[1:].replace(':', '.')}"
        for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            with tarfile.open(archive, mode, format=form) as packed:  # type: ignore[call-overload]
                packed.add(files.root, "d" * 90)
                packed.add(files.root / "a/0.png", "d" * 90 + "/c/" + "n" * 150 + ".png")
            assert len(read_source(archive).images) == 7


def test_xz_in_several_streams_is_read_on(tmp_path: Path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        member = tarfile.TarInfo("a.txt")
        member.size = 5
        packed.addfile(member, io.BytesIO(b"hello"))
    content = buffer.getvalue()
    (tmp_path / "d.tar.xz").write_bytes(
        lzma.compress(content[:700]) + bytes(8) + lzma.compress(content[700:])
    )
    assert (Unpacked(tmp_path / "d.tar.xz").folder / "a.txt").read_text() == "hello"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_is_packed_otherwise_is_refused_with_what_to_do(tmp_path: Path, method: int):
    with zipfile.ZipFile(tmp_path / "d.zip", "w", method) as archive:
        archive.writestr("a/0.png", bytes(1000))
    with pytest.raises(
        SourceError, match=r"a/0.png' is packed in another way .* pack it as zip does by default"
    ):
        read_source(tmp_path / "d.zip")


def test_members_and_disk_are_counted_before_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for number in range(20):
            archive.writestr(f"{number}/0.png", b"x")
    few = os.statvfs_result([512, 4096, 100, 100, 10_000, 100, 100, 30, 0, 255])
    monkeypatch.setattr(os, "statvfs", lambda folder: few)
    with pytest.raises(SourceError, match="free disk space"):
        read_source(tmp_path / "d.zip")
    few = os.statvfs_result([512, 4096, 100, 100, 39, 100, 100, 1000, 0, 255])
    with pytest.raises(SourceError, match="free disk space"):
        read_source(tmp_path / "d.zip")


@pytest.mark.parametrize("encoding", ["utf-16", "cp037", "latin-1"])
def test_entities_are_refused_in_any_encoding(tmp_path: Path, encoding: str):
    (tmp_path / "a.xml").write_bytes(laughs(encoding=encoding))
    with pytest.raises(SourceError, match=r"declares entities|is not UTF-8"):
        read_xml(SourceFile.named(tmp_path / "a.xml"), None)


def test_an_entity_of_another_file_is_not_read(tmp_path: Path):
    (tmp_path / "secret").write_text("hunter2")
    (tmp_path / "a.xml").write_text(
        f'<!DOCTYPE a [<!ENTITY b SYSTEM "file://{tmp_path}/secret">]><annotation>&b;</annotation>'
    )
    with pytest.raises(SourceError) as caught:
        read_xml(SourceFile.named(tmp_path / "a.xml"), None)
    assert "hunter2" not in str(caught.value)


def test_settings_of_yolo_say_what_they_said(tmp_path: Path):
    (tmp_path / "data.yaml").write_text("names: [off, 007, 1.10, '', ~, é]\nnc: 6\nx: {}\ny:\nz: &a b\n")
    assert read_yaml(SourceFile.named(tmp_path / "data.yaml")) == {
        "names": ["off", "007", "1.10", "", None, "é"], "nc": "6", "x": {}, "y": None, "z": "b",
    }  # fmt: skip


def test_a_parquet_file_that_ends_its_reader_leaves_the_next_alone(tmp_path: Path):
    files = Files(tmp_path / "data")
    files.images("0.png", "1.png")
    table = pa.table({"path": ["0.png", "1.png"], "label": ["a", "b"]})
    pq.write_table(table, files.root / "labels.parquet")
    content = (files.root / "labels.parquet").read_bytes()
    assert len(read_source(files.root).images) == 2
    for place in range(4, len(content) - 8, 37):
        altered = content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]
        (files.root / "labels.parquet").write_bytes(altered)
        try:
            read_source(files.root)
        except SourceError as refused:
            assert "labels.parquet" in str(refused)
    (files.root / "labels.parquet").write_bytes(content)
    assert len(read_source(files.root).images) == 2


def test_tables_one_after_the_other_are_read_by_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = Files(tmp_path / "data")
    for name in ("a", "b", "c"):
        files.images(f"{name}/images/0.png")
        (files.root / name / "annotations").mkdir()
        pq.write_table(
            pa.table({"path": ["0.png"], "label": [name]}), files.root / name / "annotations/labels.parquet"
        )
    start = Mock(wraps=bounds.start_process)
    monkeypatch.setattr(bounds, "start_process", start)
    assert len(read_source(files.root).images) == 3 and start.call_count <= 1


@pytest.mark.parametrize(
    "name", ["a\0.png", "x" * 300 + ".png", "0.png/1.png", "d" * 200 + "/" + "e" * 300, "a/" * 3000 + "b.png"]
)
def test_an_image_of_a_table_whose_name_no_file_can_have_has_another(name: str, tmp_path: Path):
    files = Files(tmp_path / "data")
    files.root.mkdir()
    images = [{"bytes": files.png(), "path": each} for each in ("0.png", name, "2.png")]
    pq.write_table(pa.table({"image": images, "label": ["a", "b", "c"]}), files.root / "train.parquet")
    found = read_source(files.root).images
    assert len(found) == 3 and {each.label for each in found} == {"a", "b", "c"}


def test_a_table_that_is_refused_costs_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = Files(tmp_path / "data")
    files.images("0.png")
    table = files.root / "labels.parquet"
    pq.write_table(pa.table({"path": ["0.png"], "label": ["a"]}), table)
    read_source(files.root)
    whole = table.read_bytes()
    start = Mock(wraps=bounds.start_process)
    monkeypatch.setattr(bounds, "start_process", start)
    for broken in (b"PAR1" * 8, whole[:-9] + b"\xff" + whole[-8:], whole[4:]):
        table.write_bytes(broken)
        with pytest.raises(SourceError, match=r"labels\.parquet: is not a Parquet file"):
            read_source(files.root)
    table.write_bytes(whole)
    assert len(read_source(files.root).images) == 1 and start.call_count == 0


def test_a_reader_that_was_ended_while_it_waited_is_no_files_fault(tmp_path: Path):
    files = Files(tmp_path / "data")
    files.images("0.png")
    pq.write_table(pa.table({"path": ["0.png"], "label": ["a"]}), files.root / "labels.parquet")
    read_source(files.root)
    (waiting,) = parquet_process._idle
    waiting._process.kill()
    waiting._process.wait()
    assert len(read_source(files.root).images) == 1


def test_depth_counts_what_is_nested_not_how_much_there_is(tmp_path: Path):
    files = Files(tmp_path / "data")
    files.images("0.png")
    deep = json.loads("[" * 98 + "]" * 98)
    files.text("metadata.jsonl", json.dumps({"file_name": "0.png", "label": "a", "x": [[]] * 500 + [deep]}))
    assert len(read_source(files.root).images) == 1


def test_no_depth_can_be_set_that_python_does_not_follow(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VISIONOPS_SOURCE_DEPTH", "301")
    with pytest.raises(
        ValueError, match="VISIONOPS_SOURCE_DEPTH is '301': it takes a whole number from 1 to 300"
    ):
        source_files.source_limits.__wrapped__()


def test_lists_of_other_keys_are_passed_over_however_long(tmp_path: Path):
    files = Files(tmp_path / "data")
    files.images("0.png")
    coco = {"scores": list(range(1000)), "images": [{"id": 1, "file_name": "0.png"}], "annotations": []}
    files.json("a.json", {**coco, "categories": [{"id": 1, "name": "a"}]})
    assert len(read_source(files.root).images) == 1


def test_rows_with_line_ends_in_their_fields_are_still_rows(tmp_path: Path):
    files = Files(tmp_path / "data")
    files.images("0.png", "1.png")
    with (files.root / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["path", "label", "note"], ["0.png", "a", "x\ny"], ["1.png", "b", ""]])
    assert [image.label for image in read_source(files.root).images] == ["a", "b"]
    assert json.dumps(read_source(files.root).images[0].extra) == json.dumps({"note": "x\ny"})


LONG = "x" * 5000 + "\x1b[31m\n"
QUOTES: dict[str, dict[str, str]] = {
    "voc": {"labels/0.xml": f"<annotation><object><name>{'x' * 5000}</name></object></annotation>"},
    "voc entity": {"labels/0.xml": f"<annotation>&{'x' * 5000};</annotation>"},
    "cvat": {
        "a.xml": f'<annotations><image name="{"x" * 5000}"><{"x" * 5000} label="b"/></image></annotations>'
    },
    "cvat box": {
        "a.xml": f'<annotations><image name="0.png"><box label="{"x" * 5000}" xtl="a"/></image></annotations>'
    },
    "coco": {
        "a.json": json.dumps(
            {"images": [], "annotations": [], "categories": [{"id": LONG, "name": LONG}] * 2}
        )
    },
    "coco box": {
        "a.json": json.dumps(
            {
                "images": [],
                "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": LONG}],
                "categories": [{"id": 1, "name": LONG}],
            }
        )
    },
    "yolo": {"data.yaml": f"names: [a, {'x' * 5000}]\n", "labels/0.txt": f"{'x' * 5000} 0.5 0.5 0.2 0.2\n"},
    "yolo names": {"data.yaml": f"names: [a, {'x' * 5000}]\n", "labels/0.txt": "7 0.5 0.5 0.2 0.2\n"},
    "yaml": {
        "data.yaml": f"names: [a]\n? {'x' * 900}\n? {'x' * 900}\n",
        "labels/0.txt": "0 0.5 0.5 0.2 0.2\n",
    },
    "table": {"labels.csv": f"path,{'x' * 5000},{'x' * 5000}\n0.png,a,b\n"},
    "json lines": {"metadata.jsonl": f'{{"file_name": "0.png", "label": {{"{"x" * 5000}": 1}}}}\n'},
}


@pytest.mark.parametrize("kind", QUOTES)
def test_a_refusal_quotes_little_of_a_file_and_nothing_that_acts(kind: str, tmp_path: Path):
    files = Files(tmp_path / "data")
    files.classes("images", each=2)
    for name, content in QUOTES[kind].items():
        files.text(name, content)
    with pytest.raises(SourceError) as caught:
        read_source(files.root)
    said = str(caught.value)
    assert "x" * 81 not in said and len(said) < 1000 and said.isprintable(), said
