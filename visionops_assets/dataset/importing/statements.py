"""What files of a source say of images, before it is known which they mean; what a person states where they do not."""

from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from resources.error_family import Invalid
from resources.safe_files import Links
from visionops_assets.common.arrow_columns import TextColumn
from visionops_assets.common.findings import Finding, Severity
from visionops_assets.dataset.dataset_task import OwnTruth
from visionops_assets.dataset.importing.image_columns import SAYS_NOTHING, Gathering, ImageRecord, Images
from visionops_assets.dataset.importing.image_source import SourceError
from visionops_assets.dataset.importing.plain_text import known_encoding
from visionops_assets.dataset.importing.source_files import UnpackedImages

Unlabelled = Literal["background", "leave-out", "error"]
BOX_ORDERS = ("xywh", "xyxy", "cxcywh")
UNLABELLED: tuple[Unlabelled, ...] = ("background", "leave-out", "error")


def _nowhere(name: str) -> bytes:
    raise FileNotFoundError(name)


@dataclass
class Said:
    """Takes, row by row, what an annotation says: the text that names its image, and what is known of that image.

    `bare` texts come without the suffix of their image, and may mean several that differ in it. `one_each` says that
    each image has an annotation file of its own, so that what is wrong with one path is wrong with those of all.
    `kept_by` says which words a finding uses for the rows of this format: "row", "entry", "file".
    """

    bare: bool = False
    one_each: bool = False
    kept_by: str = "entry"
    # What an image is that no annotation names, and in which words it is left out.
    unlabelled: Unlabelled = "leave-out"
    why_unlabelled: str = "is in no annotation file"
    # Whether there are rows of all images, annotated or not: one without boxes does not say that its image shows none.
    lists_all: bool = False
    # What another task learns from, where the rows have it among what is their own.
    own_truth: OwnTruth | None = None
    # Whether a row without boxes is a person's answer, which no template has.
    empty_is_answer: bool = False
    # Where an image without annotation shows no object: whether it is one of the data though no other of its folder
    # has an annotation.
    among_data: Callable[[str], bool] = lambda name: False
    findings: list[Finding] = field(default_factory=list)
    # Annotations among the rows, and how many others there are, by why they are not.
    seen: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    # Findings on the images of rows: the row, check, what, why and severity.
    noted: list[tuple[int, str, str, str, Severity]] = field(default_factory=list)
    # Files that were read as annotations, and others with the reason why they were not.
    read: set[str] = field(default_factory=set)
    not_read: dict[str, str] = field(default_factory=dict)
    # Images that are none of the data, such as masks, with the reason.
    no_data: Callable[[str], str | None] = lambda name: None
    # Lists of images: the text, the split, the file and the place in it.
    listed: list[tuple[str, str, str, int]] = field(default_factory=list)
    # Folders that a file gives a split.
    folders: dict[str, str] = field(default_factory=dict)
    # What to say where nothing is labelled.
    none_labelled: str | None = None
    # Images that lay inside of the files.
    unpacked: UnpackedImages | None = None
    # Splits that are of no use, such as two of the same images: placed by lot.
    by_lot: bool = False
    rows: Gathering = field(default_factory=lambda: Gathering(_nowhere))
    texts: TextColumn = field(default_factory=TextColumn)
    also: TextColumn = field(default_factory=TextColumn)
    parts: TextColumn = field(default_factory=TextColumn)
    files: list[str] = field(default_factory=list)
    file_of: "array[int]" = field(default_factory=lambda: array("i"))
    place: "array[int]" = field(default_factory=lambda: array("i"))

    def add(
        self,
        text: str,
        file: str,
        place: int = -1,
        record: ImageRecord = SAYS_NOTHING,
        *,
        also: str | None = None,
        part: str | None = None,
    ) -> None:
        """One more row; `also` names the same image in another way, without its suffix; `part` the part of the data
        that it is of, whose folder tells images apart that are called alike."""
        if not self.files or self.files[-1] != file:
            self.files.append(file)
        self.file_of.append(len(self.files) - 1)
        self.place.append(place)
        self.texts.add(text)
        self.also.add(also)
        self.parts.add(part or None)
        own = self.own_truth is not None and record.extra.get(self.own_truth.column) is not None
        self.seen += len(record.boxes) if record.boxes is not None else record.label is not None or own
        self.rows.add("", record)

    def refuse(
        self,
        text: str,
        file: str,
        place: int,
        problem: SourceError,
        also: str | None = None,
        counts: bool = True,
    ) -> None:
        """One more row of which nothing can be read; its image is left out with what is wrong. `counts` says that it
        is an annotation that was not counted yet."""
        what, why = str(problem).removeprefix(f"{file}: "), "correct it"
        self.tell("annotation readable", f"has an annotation that cannot be read: {what}", why)
        self.left_out["cannot be read"] += counts
        self.add(text, file, place, also=also)

    def tell(self, check: str, what: str, why: str, severity: Severity = "ERROR") -> None:
        """A finding on the image of the row that is added next; its name is not known yet."""
        self.noted.append((len(self.file_of), check, what, why, severity))

    def where(self, row: int) -> str:
        """Where a row was said."""
        file, place = self.files[self.file_of[row]], self.place[row]
        return f"{file}, {self.kept_by} {place}" if place >= 0 else file


@dataclass
class Made:
    """`images` with their labels. `left_out` counts images without one by the reason, `read` are the files that were
    read for labels or images, `images_in_files` says that these hold the images."""

    images: Images
    findings: list[Finding] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    read: set[str] = field(default_factory=set)
    images_in_files: bool = False
    # Annotations that were seen, and why some are not among the images'; None: one label an image.
    annotations: int = 0
    annotations_left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Stated:
    """`format` and `encoding` of the source, the order of the numbers of its `boxes`, what an `unlabelled` image is,
    classes that are called otherwise (`renamed`) or left out (`dropped`), whether what is wrong is left out and the
    rest published, whether links out of the source are followed, or none at all (`no_links`), and the share that is
    held out by lot where the splits of the source do not count."""

    format: str | None = None
    encoding: str | None = None
    boxes: str | None = None
    unlabelled: Unlabelled | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    leave_out_errors: bool = False
    follow_links: bool = False
    holdout: float | None = None
    no_links: bool = False

    def __post_init__(self) -> None:
        known_encoding(self.encoding)
        if self.boxes is not None and self.boxes not in BOX_ORDERS:
            raise Invalid(f"--boxes {self.boxes}: expected {', '.join(BOX_ORDERS)}")

    @property
    def links(self) -> Links:
        """Which links are followed."""
        return "none" if self.no_links else "anywhere" if self.follow_links else "inside"


NOTHING_STATED = Stated()


def known_unlabelled(text: str | None) -> Unlabelled | None:
    """What an image without annotation is, as it was typed. Raises `ValueError` naming the choices."""
    for known in UNLABELLED:
        if text == known:
            return known
    if text is not None:
        raise Invalid(f"--unlabelled {text}: expected {', '.join(UNLABELLED)}")
    return None
