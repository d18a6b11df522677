"""Folder per class: `<class>/<image>`, or `<train|val|test>/<class>/<image>` with a split of its own; also
`<class>/<train|val|test>/<image>`.

The last guess: a folder that other formats have is never a class, nor is a tree with annotations that nothing
reads.

And what no format here reads: formats that are recognised, each with what converts it.
"""

import re
from collections import Counter
from collections.abc import Iterator

from visionops_assets.common.findings import Finding
from visionops_assets.dataset.importing.file_listing import Listing, is_image_name
from visionops_assets.dataset.importing.image_columns import Gathering, ImageRecord
from visionops_assets.dataset.importing.image_source import SourceError
from visionops_assets.dataset.importing.split_names import path_stem, split_of
from visionops_assets.dataset.importing.statements import Made, Stated

NAME = "folders"

_LAYOUT = frozenset(
    {
        "images",
        "image",
        "imgs",
        "labels",
        "label",
        "annotations",
        "jpegimages",
        "imagesets",
        "segmentationclass",
    }
    | {"segmentationobject", "obj_train_data", "obj_valid_data", "obj_test_data", "masks"}
)
_ANNOTATIONS = (
    ".txt",
    ".json",
    ".jsonl",
    ".xml",
    ".csv",
    ".tsv",
    ".parquet",
    ".names",
    ".ndjson",
    ".xlsx",
    ".xls",
    ".ods",
)
_DOCUMENTS = (
    "readme",
    "license",
    "licence",
    "notice",
    "changelog",
    "citation",
    "authors",
    "about",
    "requirements",
)
_HEAD = 1 << 14
_DATUM = "`datum convert -i FOLDER -if {} -f coco -o OUT -- --save-media`"
_VIA = "its own export to COCO"
# By what stands at the beginning of a JSON file.
_JSON = (
    (
        rb'"annotation_id"|"rectanglelabels"|"polygonlabels"',
        "Label Studio's JSON-MIN",
        "its own export as JSON",
    ),
    (
        rb'"dm_format_version"|"dm_format"|"categories"\s*:\s*\{[\s\S]*"items"\s*:\s*\[',
        *("Datumaro", _DATUM.format("datumaro")),
    ),
    (rb'"boundingBox"[\s\S]*"regions"|"regions"[\s\S]*"boundingBox"', "VoTT", _DATUM.format("vott_json")),
    (rb'"data_row"', "Labelbox", "`labelbox`'s converters, to COCO"),
    (
        rb'\A\s*\[\s*\{[^\[]*"image_id"[\s\S]*"bbox"',
        "COCO's results (predictions)",
        "FiftyOne and the COCO file of their images, to COCO",
    ),
    (rb'"classes"\s*:\s*\[\s*\{[^}]*"title"[^}]*"shape"', "Supervisely", "its own export to COCO"),
    (
        rb'"classes"\s*:\s*\[\s*"[^\]]*\]\s*,\s*"labels"\s*:\s*\{[\s\S]*"bounding_box"',
        *("FiftyOne", "`dataset.export`, with the type COCODetectionDataset"),
    ),
    (
        rb'"classes"\s*:\s*\[\s*"[^\]]*\]\s*,\s*"labels"\s*:\s*\{',
        *("FiftyOne", "`dataset.export`, with the type ImageClassificationDirectoryTree"),
    ),
    (rb'"imagePath"[\s\S]*"shapes"|"shapes"[\s\S]*"imagePath"', "LabelMe", _DATUM.format("label_me")),
    (
        rb'"_via_img_metadata"|"regions"[\s\S]*"shape_attributes"|"shape_attributes"',
        *("the VGG Image Annotator", _VIA),
    ),
    (rb'"coordinates"[\s\S]*"height"', "CreateML", "FiftyOne or Roboflow, to COCO"),
    (rb'"classTitle"|"objectsInfo"', "Supervisely", "its own export to COCO"),
    (
        rb'"ground_truth"[\s\S]*"_cls"|"_cls": "Detections?"|"sample_fields"',
        *("FiftyOne", "`dataset.export`, with the type COCODetectionDataset"),
    ),
    (rb'"item"[\s\S]*"bounding_box"', "V7 Darwin", "`darwin convert` of darwin-py, to COCO"),
    (rb'"task_id"[\s\S]*"response"', "Scale", "a script of your own, to a table with a row a box"),
    (rb'"imgHeight"[\s\S]*"objects"', "Cityscapes", _DATUM.format("cityscapes")),
    (rb'"box2d"|"poly2d"', "BDD100K (Scalabel)", "`python -m scalabel.label.to_coco`"),
)
# As TensorFlow Datasets names its parts, too.
_RECORDS = re.compile(r"\.tfrecords?(?:-\d+-of-\d+)?(?:\.gz)?$")
# By the suffixes of files.
_SUFFIXES = (
    ((".manifest",), "SageMaker Ground Truth", "its own tools, to a folder with a labels.csv"),
    ((".cls",), "WebDataset", "`webdataset`, to a folder with a labels.csv"),
)
# What may also lie beside other data.
_BESIDE = (
    ((".record",), "TFRecord", _DATUM.format("tf_detection_api")),
    ((".lmdb", ".mdb"), "LMDB", "the tool that wrote it, to a folder with a labels.csv"),
    ((".npz", ".npy", ".h5", ".hdf5", ".mat"), "arrays", "Pillow, to a folder of images with a labels.csv"),
    ((".rec",), "MXNet RecordIO", "`im2rec`'s reader, to a folder with a labels.csv"),
)
FILES_NOT_READ = {
    **dict.fromkeys((".heic", ".heif"), "is HEIC; convert it to JPEG, for example with `heif-convert` or `magick`"),
    **dict.fromkeys(
        (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".wmv", ".mpg", ".mpeg"),
        "is a video; take frames from it, for example with `ffmpeg -i VIDEO -r 1 FOLDER/%06d.png`",
    ),
    **dict.fromkeys(
        (".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf"),
        "is a camera's raw file; develop it to JPEG or TIFF, for example with `darktable-cli`",
    ),
    **dict.fromkeys((".psd", ".svg", ".eps", ".xcf", ".pdf"), "is no photograph; export it as PNG"),
    **dict.fromkeys((".dcm", ".dicom"), "is DICOM; convert it to PNG, for example with `dcmj2pnm`"),
    **dict.fromkeys(
        (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".7z", ".rar", ".zst"),
        "is an archive; unpack it where its files are meant, or take it out",
    ),
    **dict.fromkeys(
        (".tga", ".pcx", ".ico", ".dds", ".jpf", ".jpx", ".j2c", ".jpc"),
        "is an image of a format that is not read; convert it to PNG, for example with `magick`",
    ),
    **dict.fromkeys((".raw", ".yuv"), "has values without a size; save it as PNG or TIFF"),
    **dict.fromkeys((".001", ".z01"), "is a part of an archive; join the parts and unpack it, for example with `7z x`"),
    **dict.fromkeys((".jxl",), "is JPEG XL; convert it to PNG with `djxl`"),
    **dict.fromkeys((".exr", ".hdr"), "has pixels whose range is not known; convert it to 16-bit PNG or TIFF"),
}  # fmt: skip
_SPREADSHEETS = (".xlsx", ".xls", ".ods")
_MASK = re.compile(r"[-_.](?:masks?|seg|segmentation|gt|groundtruth|ground_truth|label)$", re.IGNORECASE)
_POINTER = b"version https://git-lfs"


def recognises(listing: Listing) -> str | None:
    """Whether images lie in folders."""
    first = next((name for name in listing.images if "/" in name), None)
    return None if first is None else f"images lie in folders ({first})"


def read(listing: Listing, stated: Stated) -> Made:
    """Every image with its folder's name as label."""
    if stated.format != NAME:
        _check_read(listing)
    by_split = {
        name.partition("/")[0]
        for name in listing.images
        if name.count("/") > 1 and split_of(name.partition("/")[0]) is not None
    }
    images, findings, left_out = Gathering(listing.folder), listing.link_findings(), Counter[str]()
    for name in listing.images:
        split, label, why = _place(listing, name, by_split)
        if label and stated.format != NAME:
            _check_class(label, name, listing)
        if why:
            left_out[why.partition(" splits")[0] + " splits" * (" splits" in why)] += 1
            findings.append(Finding("annotated", name, why, "it has no label and is left out", "WARN"))
        else:
            images.add(name, ImageRecord(label, split=split))
    findings += _contradictions(listing, by_split)
    if stated.format != NAME:
        findings += _masks(listing)
    return Made(images.images(), findings, left_out)


def _place(listing: Listing, name: str, by_split: set[str]) -> tuple[str | None, str, str]:
    """The split and the class that an image lies in; or why it has no class."""
    parts = name.split("/")
    if len(parts) == 2 and split_of(parts[0]) is not None:
        # A link from a split without class folders: the class is that of the file's own folder.
        folders = listing.renamed.own_name(name).split("/")[:-1]
        if len(folders) == 1 and folders != parts[:1]:
            return split_of(parts[0]), folders[0], ""
    if by_split and parts[0] not in by_split:
        return None, "", "lies in none of the splits " + ", ".join(sorted(by_split))
    if len(parts) < 2 + bool(by_split):
        return None, "", "lies in no class folder"
    if by_split:
        return split_of(parts[0]), parts[1], ""
    return split_of(parts[1]) if len(parts) > 2 else None, parts[0], ""


def _contradictions(listing: Listing, by_split: set[str]) -> Iterator[Finding]:
    """Images that a link puts into another class than they are in."""

    def class_of(name: str) -> str:
        return _place(listing, name, by_split)[1]

    classes = {class_of(name) for name in listing.images}
    for name, file in listing.again.items():
        counts = listing.renamed(file)
        if name == counts or not is_image_name(name):
            continue
        label, other = class_of(name), class_of(counts)
        # A folder of links alone may be somebody's choice of images, unless links alone say the other class, too.
        if label and other and label != other and (label in classes or counts != file):
            by = f" by the link {counts}" if counts != file else ""
            what = f"is {label} by its folder, and a link to {file}, which is {other}{by}"
            yield Finding("one label an image", name, what, "keep the one that is right")


def is_document(name: str) -> bool:
    """Whether a file tells people about the data, and nothing of its images."""
    last = name.rpartition("/")[2].lower()
    return last.startswith(_DOCUMENTS) or last.endswith((".md", ".pdf", ".html", ".rst"))


def _check_read(listing: Listing) -> None:
    unread = [name for name in listing.ending(*_ANNOTATIONS) if not is_document(name)]
    if unread:
        _check_filled(listing, unread[0])
        more = f" and {len(unread) - 1:,} more" if len(unread) > 1 else ""
        raise SourceError(
            f"{listing.root}: {unread[0]}{more} may be annotations, but fit no format that is read; name the format "
            "with --format, or take folders for classes and leave these unread with --format folders"
        )


def _check_filled(listing: Listing, name: str) -> None:
    """What can be said of annotations of which not even the format can be told."""
    if name.lower().endswith(_SPREADSHEETS):
        raise SourceError(f"{listing.file(name)}: is of a spreadsheet program; save it as CSV (UTF-8)")
    if listing.file(name).head(_HEAD).strip() in (b"", b"[]"):
        raise SourceError(
            f"{listing.file(name)}: is empty; export the annotations again, or take the file out"
        )


def _masks(listing: Listing) -> Iterator[Finding]:
    """Images that are called after another one beside them, as tools call its mask."""
    stems = {path_stem(name) for name in listing.images}
    for name in listing.images:
        stem = path_stem(name)
        of = _MASK.sub("", stem)
        if of != stem and of in stems:
            what = f"is called as the mask of {of.rpartition('/')[2]}, which lies beside it"
            why = "leave masks out (--leave-out-errors), or say --format folders where all are images of a class"
            yield Finding("images read", name, what, why)


def _check_class(label: str, name: str, listing: Listing) -> None:
    if label.lower() in _LAYOUT or split_of(label) is not None:
        raise SourceError(
            f"{listing.root}: nothing says what {name} shows: {label}/ is no class, and there are no annotations that "
            "are read. Expected for example one folder for each class, or a labels.csv with columns path, label"
        )


def foreign_format(listing: Listing, alone: bool) -> str | None:
    """Which format that is not read a source is in, and how it is converted; `alone` also by files that may lie beside
    other data."""
    return _by_content(listing) or _by_name(listing, alone)


def _by_content(listing: Listing) -> str | None:
    for name in listing.ending(".json", ".ndjson"):
        head = listing.file(name).head(_HEAD)
        for sign, format_name, tool in _JSON:
            if re.search(sign, head):
                return f"{name} is a file of {format_name}, which is not read; convert it with {tool}"
    for name in listing.ending(".csv"):
        first = listing.file(name).head(_HEAD).partition(b"\n")[0].lower()
        if b"region_shape_attributes" in first:
            return f"{name} is a table of the VGG Image Annotator, which is not read; convert it with {_VIA}"
        if b"imageid" in first and b"labelname" in first:
            tool = _DATUM.format("open_images")
            return f"{name} is a table of Open Images, which is not read; convert it with {tool}"
    return None


def _by_name(listing: Listing, alone: bool) -> str | None:
    if found := [name for name in listing.others if _RECORDS.search(name.lower())]:
        return f"{found[0]} is of TFRecord, which is not read; convert it with {_DATUM.format('tf_detection_api')}"
    for suffixes, format_name, tool in (*_SUFFIXES, *(_BESIDE if alone else ())):
        if found := listing.ending(*suffixes):
            return f"{found[0]} is of {format_name}, which is not read; convert it with {tool}"
    if found := [
        name for name in listing.ending(".txt") if "label_2/" in f"/{name}" or name.endswith("gt/gt.txt")
    ]:
        return f"{found[0]} is of KITTI or MOT, which are not read; convert it with {_DATUM.format('kitti')}"
    if found := [name for name in listing.ending(".txt") if "labeltxt" in name.lower()]:
        tool = "`convert_dota_to_yolo_obb` of Ultralytics"
        return f"{found[0]} is of DOTA, which is not read; convert it with {tool}"
    if found := [name for name in listing.ending(".txt") if "labels/" in f"/{name.lower()}"]:
        return f"{found[0]} lies where YOLO has labels, but no data.yaml, obj.names or classes.txt names the classes"
    if found := [name for name in listing.ending(".tar") if "/" not in name]:
        return f"{found[0]} is a shard of WebDataset, or another archive in the folder; unpack it, or give itself"
    return None


def is_lfs_pointer(listing: Listing) -> str | None:
    """A file that only points to where Git LFS keeps it."""

    def points(name: str) -> bool:
        return listing.file(name).head(64).startswith(_POINTER)

    images = listing.images[:20]
    if images and all(points(name) for name in images):
        return images[0]
    return next((name for name in listing.others[:200] if points(name)), None)
