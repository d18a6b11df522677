"""Formats that are recognised and not read, each with what converts it."""

import re

from visionops_assets.dataset.importing.file_listing import Listing

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
NOT_READ = {
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
    **dict.fromkeys((".jxl",), "is JPEG XL; convert it to PNG with `djxl`"),
    **dict.fromkeys((".exr", ".hdr"), "has pixels whose range is not known; convert it to 16-bit PNG or TIFF"),
}  # fmt: skip
_POINTER = b"version https://git-lfs"


def recognised(listing: Listing, alone: bool) -> str | None:
    """Which format that is not read a source is in, and how it is converted; `alone` also by files that may lie beside
    other data."""
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
    if found := [name for name in listing.others if _RECORDS.search(name.lower())]:
        return f"{found[0]} is of TFRecord, which is not read; convert it with {_DATUM.format('tf_detection_api')}"
    for suffixes, format_name, tool in (*_SUFFIXES, *(_BESIDE if alone else ())):
        if found := listing.ending(*suffixes):
            return f"{found[0]} is of {format_name}, which is not read; convert it with {tool}"
    if found := [
        name for name in listing.ending(".txt") if "label_2/" in f"/{name}" or name.endswith("gt/gt.txt")
    ]:
        return f"{found[0]} is of KITTI or MOT, which are not read; convert it with {_DATUM.format('kitti')}"
    if found := [name for name in listing.ending(".txt") if "labels/" in f"/{name.lower()}"]:
        return f"{found[0]} lies where YOLO has labels, but no data.yaml, obj.names or classes.txt names the classes"
    if found := [name for name in listing.ending(".tar") if "/" not in name]:
        return f"{found[0]} is a shard of WebDataset, or another archive in the folder; unpack it, or give itself"
    return None


def pointer(listing: Listing) -> str | None:
    """A file that only points to where Git LFS keeps it."""

    def points(name: str) -> bool:
        return listing.file(name).head(64).startswith(_POINTER)

    images = listing.images[:20]
    if images and all(points(name) for name in images):
        return images[0]
    return next((name for name in listing.others[:200] if points(name)), None)
