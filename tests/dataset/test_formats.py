import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from edge.images.decode import decode_whole
from edge.images.decode_pool import probe
from tests.dataset.store import Repository
from visionops_assets.dataset.importing.box_coordinates import settled
from visionops_assets.dataset.importing.file_listing import list_files
from visionops_assets.dataset.importing.formats.arrays import png_of
from visionops_assets.dataset.importing.image_columns import Images, Source
from visionops_assets.dataset.importing.image_source import Box, SourceError, SourceImage
from visionops_assets.dataset.importing.reading import FORMATS, read_source
from visionops_assets.dataset.importing.statements import Stated

BOXES: dict[str, list[Box]] = {
    "0.png": [
        {"x": 4.0, "y": 6.0, "w": 16.0, "h": 12.0, "label": "dent"},
        {"x": 0.0, "y": 0.0, "w": 64.0, "h": 48.0, "label": "scratch"},
    ],
    "1.png": [{"x": 32.0, "y": 24.0, "w": 8.0, "h": 3.0, "label": "scratch"}],
    "2.png": [],
}
CLASSES = ["dent", "scratch"]
SIDES: tuple[Literal["x", "y", "w", "h"], ...] = ("x", "y", "w", "h")


def boxes_of(image: SourceImage) -> Sequence[Box]:
    assert image.boxes is not None
    return image.boxes


def in_pixels(source: Source) -> Images:
    """The images with boxes as the audit brings them to pixels."""
    headers = [probe(image.read(), image.name) for image in source.images]
    height, width = (
        np.array([getattr(one, side) for one in headers], np.int32) for side in ("height", "width")
    )
    return settled(
        source.images, height, width, np.array([one.orientation for one in headers], np.uint8)
    ).images


def write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def coco_json(names: dict[str, list[Box]]) -> str:
    annotations = [
        {"id": 100 * i + j, "image_id": i, "category_id": 7 + CLASSES.index(box["label"])}
        | {"bbox": [box["x"], box["y"], box["w"], box["h"]], "iscrowd": 0}
        for i, boxes in enumerate(names.values())
        for j, box in enumerate(boxes)
    ]
    images = [
        {"id": i, "file_name": name, "width": 64, "height": 48, "date_captured": "2013-11-14 17:02:52"}
        for i, name in enumerate(names)
    ]
    categories = [{"id": 7 + i, "name": name} for i, name in enumerate(CLASSES)]
    return json.dumps({"info": {}, "images": images, "annotations": annotations, "categories": categories})


def as_coco(folder: Path, png) -> Path:
    for name in BOXES:
        write(folder / "train2017" / name, png(int(name[0])))
    write(folder / "annotations/instances_train2017.json", coco_json(BOXES))
    return folder


def as_yolo(folder: Path, png) -> Path:
    for name, boxes in BOXES.items():
        write(folder / "images/train" / name, png(int(name[0])))
        lines = [
            f"{CLASSES.index(box['label'])} {(box['x'] + box['w'] / 2) / 64} {(box['y'] + box['h'] / 2) / 48} "
            f"{box['w'] / 64} {box['h'] / 48}"
            for box in boxes
        ]
        write(folder / "labels/train" / f"{name[0]}.txt", "\n".join(lines))
    write(folder / "data.yaml", "path: .\ntrain: images/train\nnames:\n  0: dent\n  1: scratch\n")
    return folder


def as_voc(folder: Path, png) -> Path:
    for name, boxes in BOXES.items():
        write(folder / "JPEGImages" / name, png(int(name[0])))
        objects = "".join(
            f"<object><name>{box['label']}</name><difficult>0</difficult><bndbox><xmin>{box['x'] + 1:g}</xmin>"
            f"<ymin>{box['y'] + 1:g}</ymin><xmax>{box['x'] + box['w']:g}</xmax><ymax>{box['y'] + box['h']:g}</ymax>"
            "</bndbox></object>"
            for box in boxes
        )
        xml = f"<annotation><folder>VOC2012</folder><filename>{name}</filename>{objects}</annotation>"
        write(folder / "Annotations" / f"{name[0]}.xml", xml)
    write(folder / "ImageSets/Main/train.txt", "0\n1\n2\n")
    write(folder / "ImageSets/Main/dent_train.txt", "0 1\n1 -1\n2 -1\n")
    return folder


WRITERS = {"coco": as_coco, "yolo": as_yolo, "voc": as_voc}


@pytest.mark.parametrize("name", WRITERS)
def test_detection_formats_are_recognised_and_keep_every_box(tmp_path, png, name):
    source = read_source(WRITERS[name](tmp_path / "d", png))
    assert source.format == name and source.findings.empty
    found = {image.name.rpartition("/")[2]: image for image in in_pixels(source)}
    assert list(found) == list(BOXES)
    for file_name, boxes in BOXES.items():
        image = found[file_name]
        assert image.read() == png(int(file_name[0]))
        assert image.split == "train"
        assert [box["label"] for box in boxes_of(image)] == [box["label"] for box in boxes]
        for got, expected in zip(boxes_of(image), boxes, strict=True):
            for side in SIDES:
                assert got[side] == pytest.approx(expected[side], abs=1e-4)


@pytest.mark.parametrize("name", WRITERS)
def test_detection_formats_become_canonical_annotations(tmp_path, png, name):
    plan = Repository(tuple(CLASSES)).plan(WRITERS[name](tmp_path / "d", png), "week-1")
    assert plan.ok, plan.findings.to_string()
    rows = plan.annotations.to_pylist()
    for row, boxes in zip(rows, BOXES.values(), strict=True):
        assert [box["label"] for box in row["boxes"]] == [box["label"] for box in boxes]


@pytest.mark.parametrize("name", WRITERS)
def test_annotations_without_image_and_images_without_annotation_are_found(tmp_path, png, name):
    folder = WRITERS[name](tmp_path / "d", png)
    image = next(path for path in sorted(folder.rglob("1.png")))
    image.rename(image.with_name("other.png"))
    found = read_source(folder).findings
    assert found["check"].tolist() == ["complete", "annotated"] or set(found["check"]) == {
        "complete",
        "annotated",
    }
    assert found[found["check"] == "annotated"]["severity"].tolist() == ["WARN"]
    assert "other.png" in found[found["check"] == "annotated"]["image"].iloc[0]


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("coco", "annotations/instances_train2017.json", '{"images": [], "annotations": [}', "is not JSON"),
        ("coco", "annotations/instances_train2017.json", '{"images": [], "annotations": 3}', "has no list"),
        (
            "coco",
            "annotations/instances_train2017.json",
            '{"images": [], "categories": [], "annotations": [{"id": 5, "bbox": [1, 2, 3, 4], "category_id": 1}]}',
            "annotation 5 has no usable bbox, image_id or category_id",
        ),
        ("yolo", "labels/train/0.txt", "0 0.5 0.5 0.1", "line 1: has 3 numbers after the class"),
        ("yolo", "labels/train/0.txt", "0 a b c d", "line 1: expected numbers"),
        ("yolo", "labels/train/0.txt", "5 0.5 0.5 0.1 0.1", "line 1: class 5 has no name"),
        ("yolo", "data.yaml", "names: 3", "expected `names`"),
        ("yolo", "data.yaml", "names: [", "is not YAML"),
        ("voc", "Annotations/1.xml", "<annotation><object>", "is not XML"),
        (
            "voc",
            "Annotations/1.xml",
            "<annotation><object><name>a</name></object></annotation>",
            "has no bndbox",
        ),
        ("voc", "Annotations/1.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "declares entities"),
    ],
)
def test_a_broken_annotation_file_is_named(tmp_path, png, name, file, content, message):
    folder = WRITERS[name](tmp_path / "d", png)
    write(folder / file, content)
    with pytest.raises(SourceError, match=message) as caught:
        read_source(folder, Stated(name))
    assert Path(file).name in str(caught.value)


def test_coco_crowds_are_left_out_and_counted(tmp_path, png):
    folder = as_coco(tmp_path / "d", png)
    file = folder / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["iscrowd"] = 1
    file.write_text(json.dumps(content))
    source = read_source(folder)
    assert [len(boxes_of(image)) for image in source.images] == [1, 1, 0]
    assert source.findings["what"].tolist() == ["has 1 crowd regions"]


def test_coco_images_of_equal_names_are_told_apart_by_their_split(tmp_path, png):
    folder = tmp_path / "d"
    for split in ("train2017", "val2017"):
        write(folder / "images" / split / "0.png", png(len(split)))
        write(folder / f"annotations/instances_{split}.json", coco_json({"0.png": BOXES["0.png"]}))
    images = read_source(folder).images
    assert [(image.name, image.split) for image in images] == [
        ("images/train2017/0.png", "train"),
        ("images/val2017/0.png", "holdout"),
    ]


def test_a_yolo_polygon_becomes_the_box_around_it(tmp_path, png):
    folder = as_yolo(tmp_path / "d", png)
    write(folder / "labels/train/0.txt", "1 0.25 0.5 0.5 0.25 0.75 0.5 0.5 0.75")
    assert in_pixels(read_source(folder))[0].boxes == [
        {"x": 16.0, "y": 12.0, "w": 32.0, "h": 24.0, "label": "scratch"}
    ]


PIXELS = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)


def text(value: str | bytes) -> bytes:
    raw = value.encode("latin1") if isinstance(value, str) else value
    return b"T" + struct.pack("<i", len(raw)) + raw


def python_2_pickle(value: object) -> bytes:
    """The opcodes that Python 2 and its NumPy wrote into CIFAR's files: text without an encoding."""

    def dump(value: object) -> bytes:
        match value:
            case dict():
                return b"}(" + b"".join(dump(key) + dump(one) for key, one in value.items()) + b"u"
            case list():
                return b"](" + b"".join(map(dump, value)) + b"e"
            case int():
                return b"J" + struct.pack("<i", value)
            case str():
                return text(value)
            case np.ndarray():
                shape = b"(" + b"".join(map(dump, value.shape)) + b"t"
                kind = (
                    b"cnumpy\ndtype\n("
                    + text("u1")
                    + b"K\0K\1tR(K\3"
                    + text("|")
                    + b"NNN"
                    + dump(-1) * 2
                    + b"K\0tb"
                )
                made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0t" + text("b") + b"tR"
                return made + b"(K\1" + shape + kind + b"\x89" + text(value.tobytes()) + b"tb"
        raise TypeError(type(value))

    return b"\x80\2" + dump(value) + b"."


def python_batch(numbers: range, **labels: list[int]) -> bytes:
    return python_2_pickle({"data": PIXELS[list(numbers)].reshape(len(numbers), -1)} | labels)


def cifar_10_python(folder: Path) -> Path:
    write(folder / "batches.meta", python_2_pickle({"label_names": ["cat", "dog"]}))
    write(folder / "data_batch_1", python_batch(range(5), labels=[0, 1, 0, 1, 0]))
    write(folder / "data_batch_2", python_batch(range(5, 9), labels=[1, 1, 0, 0]))
    write(folder / "test_batch", python_batch(range(9, 12), labels=[0, 1, 1]))
    return folder


def binary_batch(numbers: range, *labels: list[int]) -> bytes:
    heads = zip(*labels, strict=True)
    return b"".join(bytes(head) + PIXELS[n].tobytes() for n, head in zip(numbers, heads, strict=True))


def cifar_10_binary(folder: Path) -> Path:
    write(folder / "batches.meta.txt", "cat\ndog\n\n")
    write(folder / "data_batch_1.bin", binary_batch(range(5), [0, 1, 0, 1, 0]))
    write(folder / "data_batch_2.bin", binary_batch(range(5, 9), [1, 1, 0, 0]))
    write(folder / "test_batch.bin", binary_batch(range(9, 12), [0, 1, 1]))
    return folder


def cifar_100_python(folder: Path) -> Path:
    names = {"fine_label_names": ["cat", "dog"], "coarse_label_names": ["pets", "others"]}
    write(folder / "meta", python_2_pickle(names))
    write(
        folder / "train",
        python_batch(range(9), fine_labels=[0, 1, 0, 1, 0, 1, 1, 0, 0], coarse_labels=[0, 1] + [0] * 7),
    )
    write(folder / "test", python_batch(range(9, 12), fine_labels=[0, 1, 1], coarse_labels=[1, 0, 0]))
    return folder


def cifar_100_binary(folder: Path) -> Path:
    write(folder / "fine_label_names.txt", "cat\ndog\n")
    write(folder / "coarse_label_names.txt", "pets\nothers\n")
    write(folder / "train.bin", binary_batch(range(9), [0, 1] + [0] * 7, [0, 1, 0, 1, 0, 1, 1, 0, 0]))
    write(folder / "test.bin", binary_batch(range(9, 12), [1, 0, 0], [0, 1, 1]))
    return folder


def check_cifar(source: Source, coarse: bool) -> None:
    assert source.format == "cifar"
    images = [
        image
        for part in ("data_batch", "train", "test")
        for image in source.images
        if image.name.startswith(part)
    ]
    assert [image.label for image in images] == [
        ["cat", "dog"][i] for i in (0, 1, 0, 1, 0, 1, 1, 0, 0, 0, 1, 1)
    ]
    assert [image.split for image in images] == ["train"] * 9 + ["holdout"] * 3
    for pixels, image in zip(PIXELS, images, strict=True):
        assert np.array_equal(decode_whole(image.read(), image.name, 3), pixels.transpose(1, 2, 0))
    if coarse:
        assert [image.extra["coarse"] for image in images] == [
            ["pets", "others"][i] for i in (0, 1, *[0] * 7, 1, 0, 0)
        ]


@pytest.mark.parametrize("make", [cifar_10_python, cifar_10_binary, cifar_100_python, cifar_100_binary])
@pytest.mark.parametrize("packed", [False, True])
def test_cifar_is_read_in_every_version_unpacked_or_not(tmp_path, make, packed):
    folder = make(tmp_path / "cifar-batches")
    if packed:
        archive = tmp_path / "cifar.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(folder, "cifar-batches")
        folder = archive
    check_cifar(read_source(folder), "100" in make.__name__)


@pytest.mark.parametrize("make", [cifar_10_python, cifar_100_binary, lambda folder: mnist(folder, True)])
@pytest.mark.parametrize("packed", [False, True])
def test_files_with_images_in_them_add_up_and_tell_what_lies_beside(tmp_path, png, make, packed):
    source = make(tmp_path / "set")
    write(source / "readme.html", "x")
    write(source / "photo.png", png(1))
    if packed:
        archive = tmp_path / "set.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(source, "set")
    sums = read_source(archive if packed else source).sums
    assert sums.add_up() and sums.stored == sums.kept == 12
    assert sums.images_left_out == {"beside files with the images in them": 1}
    told = read_source(source).findings
    assert told["what"].tolist() == ["1 images lie beside files with images in them"]


def test_pixels_that_are_no_bytes_are_no_image(tmp_path):
    folder = cifar_10_python(tmp_path / "c")
    rows = PIXELS[:5].reshape(5, -1).astype(np.int64)
    rows[0, 0] = 256
    write(folder / "data_batch_1", pickle.dumps({b"data": rows, b"labels": [0, 1, 0, 1, 0]}, protocol=2))
    with pytest.raises(SourceError, match=r"data_batch_1: has pixels from \d+ to 256, expected 0 to 255"):
        read_source(folder)


def test_python_and_binary_cifar_give_the_same_images(tmp_path):
    one, other = (read_source(make(tmp_path / make.__name__)) for make in (cifar_10_python, cifar_10_binary))
    assert [(image.name, image.read(), image.label) for image in one.images] == [
        (image.name, image.read(), image.label) for image in other.images
    ]


def test_batches_pickled_by_python_3_are_read_too(tmp_path):
    folder = cifar_10_python(tmp_path / "c")
    rows = PIXELS[:5].reshape(5, -1)
    write(folder / "data_batch_1", pickle.dumps({b"data": rows, b"labels": [0, 1, 0, 1, 0]}, protocol=2))
    check_cifar(read_source(folder), coarse=False)


class Attack:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    folder = cifar_10_python(tmp_path / "c")
    write(folder / "data_batch_1", pickle.dumps({"data": Attack(tmp_path / "trace")}))
    with pytest.raises(SourceError, match=r"data_batch_1: is not read: it asks for pathlib"):
        read_source(folder)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("cut", [1, 3000])
def test_a_cut_off_cifar_file_is_named(tmp_path, cut):
    for make in (cifar_10_python, cifar_10_binary):
        folder = make(tmp_path / make.__name__)
        file = next(path for path in sorted(folder.glob("data_batch_2*")))
        file.write_bytes(file.read_bytes()[:-cut])
        with pytest.raises(SourceError, match="data_batch_2"):
            read_source(folder)


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def mnist(folder: Path, zipped: bool) -> Path:
    digits = PIXELS[:, 0, :28, :28]
    labels = np.arange(12, dtype=np.uint8) % 10
    for part, chosen in (("train", slice(0, 9)), ("t10k", slice(9, 12))):
        for kind, values in (("images-idx3", digits[chosen]), ("labels-idx1", labels[chosen])):
            data = idx(np.ascontiguousarray(values))
            name = f"{part}-{kind}-ubyte"
            write(folder / (name + ".gz" * zipped), gzip.compress(data) if zipped else data)
    return folder


@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_is_read_plain_or_gzipped(tmp_path, zipped):
    source = read_source(mnist(tmp_path, zipped))
    assert source.format == "mnist" and len(source.images) == 12
    test, train = source.images[:3], source.images[3:]
    assert {image.split for image in train} == {"train"} and {image.split for image in test} == {"holdout"}
    assert [image.label for image in train] == [str(n) for n in range(9)]
    for n, image in enumerate([*train, *test]):
        assert np.array_equal(decode_whole(image.read(), "a", 1)[..., 0], PIXELS[n, 0, :28, :28])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte", b"\0\0\x08\x03", "is no IDX file"),
        ("train-labels-idx1-ubyte", idx(np.zeros(4, np.uint8)), "has 9 images, but"),
        ("train-images-idx3-ubyte", idx(np.zeros((9, 28, 28), np.uint8))[:-1], "is it complete"),
    ],
)
def test_a_broken_idx_file_is_named(tmp_path, name, content, message):
    folder = mnist(tmp_path, False)
    write(folder / name, content)
    with pytest.raises(SourceError, match=message):
        read_source(folder)


@pytest.mark.parametrize("shape", [(1, 1, 1), (28, 28, 1), (200, 300, 3), (1, 70_000, 1)])
def test_arrays_become_png_files_that_keep_every_pixel(shape):
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    data = png_of(pixels)
    assert np.array_equal(decode_whole(data, "a", shape[2]), pixels)
    with Image.open(io.BytesIO(data)) as image:
        image.verify()


def zip_of(path: Path, entries: dict[str, bytes], links: tuple[str, ...] = ()) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
        for name in links:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o120777 << 16
            archive.writestr(entry, "/etc/hostname")
    return path


def tar_of(path: Path, entries: dict[str, bytes], links: tuple[str, ...] = ()) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in entries.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for name in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/hostname"
            archive.addfile(entry)
    return path


@pytest.mark.parametrize(("pack", "suffix"), [(zip_of, ".zip"), (tar_of, ".tar.gz")])
class TestArchives:
    def test_a_packed_folder_is_read_like_the_folder(self, tmp_path, png, pack, suffix):
        entries = {f"data/{label}/{n}.png": png(n + 5 * (label == "b")) for label in "ab" for n in range(4)}
        plan = Repository().plan(pack(tmp_path / f"d{suffix}", entries), "week-1")
        assert plan.ok
        assert [upload.path for upload in plan.uploads][:2] == [
            "batches/week-1/images/a/0.png",
            "batches/week-1/images/a/1.png",
        ]
        assert plan.uploads[0].read() == png(0)

    @pytest.mark.parametrize("name", ["../out.png", "/tmp/out.png", "a/../../out.png"])
    def test_a_name_that_leads_out_is_refused(self, tmp_path, png, pack, suffix, name):
        (tmp_path / "in").mkdir()
        archive = pack(tmp_path / f"in/d{suffix}", {"a/0.png": png(0), name: png(1)})
        with pytest.raises(SourceError, match=r"leads out of the archive"):
            read_source(archive)
        assert not (tmp_path / "out.png").exists()

    def test_a_link_is_refused(self, tmp_path, png, pack, suffix):
        archive = pack(tmp_path / f"d{suffix}", {"a/0.png": png(0)}, ("a/link.png",))
        with pytest.raises(SourceError, match=r"a/link\.png is a link"):
            read_source(archive)

    def test_a_truncated_archive_is_refused_and_leaves_nothing(
        self, tmp_path, png, pack, suffix, monkeypatch
    ):
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(scratch))
        archive = pack(tmp_path / f"d{suffix}", {f"a/{n}.png": png(n) for n in range(20)})
        archive.write_bytes(archive.read_bytes()[:-500])
        with pytest.raises(SourceError, match="cannot be unpacked"):
            read_source(archive)
        assert list(scratch.iterdir()) == []

    def test_the_unpacked_files_live_as_long_as_the_plan(self, tmp_path, png, pack, suffix, monkeypatch):
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(scratch))
        plan = Repository().plan(
            pack(tmp_path / f"d{suffix}", {f"a/{n}.png": png(n) for n in range(4)}), "week-1"
        )
        assert len(list(scratch.iterdir())) == 1 and plan.uploads[3].read() == png(3)
        del plan
        assert list(scratch.iterdir()) == []


def test_every_format_names_itself_and_leaves_an_empty_folder_alone(tmp_path):
    for name, module in FORMATS.items():
        assert name == module.NAME
        assert module.recognises(list_files(tmp_path)) is None
    with pytest.raises(SourceError, match="does not exist"):
        read_source(tmp_path / "nowhere")
    (tmp_path / "week-01").mkdir()
    with pytest.raises(SourceError, match=r"week-1: does not exist; did you mean week-01\?"):
        read_source(tmp_path / "week-1")
