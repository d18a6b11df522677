"""From what files say to images with annotations: each row finds its image, and each image its split.

What contradicts itself, or fits two ways, is a finding that names both. Nothing is dropped without one.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from visionops_assets.common.arrow_columns import decoded
from visionops_assets.common.findings import Finding, Severity
from visionops_assets.dataset.importing.file_listing import Listing
from visionops_assets.dataset.importing.image_columns import (
    NO_SPLIT,
    Gathering,
    ImageRecord,
    Images,
    joined_images,
)
from visionops_assets.dataset.importing.image_source import SourceError
from visionops_assets.dataset.importing.name_matching import (
    CASE,
    OTHERWISE,
    PREFIX,
    SUFFIX,
    Finder,
    GivenSplits,
    Meant,
)
from visionops_assets.dataset.importing.split_names import part_of_file, path_stem, split_of_file
from visionops_assets.dataset.importing.statements import Said, Stated, Unlabelled
from visionops_assets.dataset.versions.annotations import SPLITS

_TOLD = {
    OTHERWISE: "differ from the paths only in how they are written",
    PREFIX: "begin with another folder",
    CASE: "are in another case than the files",
    SUFFIX: "have another suffix than the files, or none",
}


@dataclass(frozen=True)
class Resolved:
    """The images with what was said of them, and what became of all that was found."""

    images: Images
    findings: list[Finding]
    images_left_out: Counter[str]
    annotations: int
    annotations_left_out: Counter[str]
    # Images without annotation that are taken for such without objects, though nobody said so.
    supposed: int


def resolved(said: Said, listing: Listing, open_: Callable[[str], bytes], stated: Stated) -> Resolved:
    """Find the image of every row, its split, and what is to be said of the rest."""
    return _Resolving(said, listing, open_, stated).result()


class _Resolving:
    def __init__(self, said: Said, listing: Listing, open_: Callable[[str], bytes], stated: Stated) -> None:
        self._said, self._open, self._stated = said, open_, stated
        self._rows, self._texts = said.rows.images(), said.texts.array()
        self._also, self._parts = said.also.array_if_any(), said.parts.array_if_any()
        self._findings = list(said.findings)
        self._images_left_out = Counter[str]()
        self._left_out, self._seen = Counter(said.left_out), said.seen + said.left_out.total()
        self._data = listing.without(lambda name: said.no_data(name) is not None)
        for name in listing.images:
            if (reason := said.no_data(name)) is not None:
                self._images_left_out[reason] += 1
        self._told: dict[str, tuple[int, str, str, str]] = {}
        self._finder = Finder(self._data.images, self._data.renamed)
        self._supposed = 0
        # Images that an annotation means which means others too: what they show is not known.
        self._contested: set[int] = set()
        # The row of each image, or -1.
        self._row_of = np.full(len(self._data.images), -1, np.int64)

    def result(self) -> Resolved:
        self._findings += [
            Finding(
                "annotated",
                reason,
                f"{times:,} images",
                "they are no photographs, and are not read",
                "WARN",
            )
            for reason, times in self._images_left_out.items()
        ]
        self._check_one_kind()
        self._match_rows()
        splits = self._splits()
        images = self._gathered(splits)
        self._tell_how()
        self._tell_noted()
        return Resolved(
            images, self._findings, self._images_left_out, self._seen, self._left_out, self._supposed
        )

    def _check_one_kind(self) -> None:
        """Raise `SourceError` where some rows label whole images and others draw boxes."""
        label, boxes = self._rows.label, self._rows.boxes
        if label is None or boxes is None:
            return
        labelled, drawn = (
            np.flatnonzero(one.is_valid().to_numpy(zero_copy_only=False)) for one in (label, boxes)
        )
        if len(labelled) and len(drawn):
            raise SourceError(
                f"{self._said.where(int(labelled[0]))} labels a whole image, {self._said.where(int(drawn[0]))} has "
                "boxes; a project is about one of them: give a source with labels or one with boxes"
            )

    def _match_rows(self) -> None:
        unmatched: dict[str, list[int]] = defaultdict(list)
        for row in range(len(self._rows)):
            meant = self._meant(row)
            if meant.places:
                self._take(row, meant)
            else:
                unmatched["" if self._said.one_each else self._said.files[self._said.file_of[row]]].append(
                    row
                )
        for rows in unmatched.values():
            found, prefix = self._finder.with_prefix([self._text(row) for row in rows], self._said.bare)
            for number, row in enumerate(rows):
                if number in found:
                    self._take(row, found[number])
                else:
                    self._missing(row)
            if found:
                row = rows[min(found)]
                self._tell(PREFIX, self._text(row), found[min(found)], len(found), prefix)

    def _meant(self, row: int) -> Meant:
        said = self._said
        file = said.files[said.file_of[row]]
        folder, split = file.rpartition("/")[0], split_of_file(file)
        if self._rows.split[row] != NO_SPLIT:
            split = SPLITS[self._rows.split[row]]
        part = None if self._parts is None else self._parts[row].as_py()
        part = part_of_file(file) if part is None else decoded(part)
        text = self._text(row)
        meant = self._finder.meant(text, folder, split, said.bare, part) if text else Meant()
        other = None if self._also is None else self._also[row].as_py()
        if other is None:
            return meant
        by_name = self._finder.meant(decoded(other), folder, split, True, part)
        if not by_name.places or by_name.how:
            return meant if meant.places else by_name
        if not meant.places or meant.how or set(meant.places) & set(by_name.places):
            return meant if meant.places and not meant.how else by_name
        # Beside the file lies another image than the one that it names.
        images = self._data.images
        one, two = images[meant.places[0]], images[by_name.places[0]]
        if len(meant.places) == len(by_name.places) == 1 and one != two:
            self._findings.append(
                Finding(
                    "one image",
                    one,
                    f"is named in {said.where(row)}, whose own name is that of {two}",
                    "both are there, so it is not known which it is about; correct one of the names",
                )
            )
        return meant

    def _take(self, row: int, meant: Meant) -> None:
        images, places = self._data.images, meant.places
        if len(places) > 1:
            named = " and ".join(images[place] for place in places[:2])
            if not (self._said.bare and len({path_stem(images[place]) for place in places}) == 1):
                what = f"fits {named} ({self._said.where(row)})"
                self._refuse(
                    "one image", self._text(row) or "an empty name", what, "name the image by its path"
                )
                self._left_out["it fits several images"] += self._weight(row)
                self._contested.update(places)
                return
            what = f"is about {named}, which differ in their suffix only"
            self._findings.append(
                Finding(
                    "annotated once",
                    self._said.where(row),
                    what,
                    "each gets the same boxes; leave one out",
                    "WARN",
                )
            )
        if meant.how and meant.how != PREFIX:
            self._tell(meant.how, self._text(row), meant)
        for number, place in enumerate(places):
            if self._row_of[place] >= 0:
                what = f"is annotated again in {self._said.where(row)}"
                self._refuse("annotated once", images[place], what, f"keep one {self._said.kept_by}")
                self._left_out["its image is annotated again"] += self._weight(row)
            else:
                self._row_of[place] = row
                if number:
                    # The same boxes count for each image that has them.
                    self._seen += self._weight(row)

    def _missing(self, row: int) -> None:
        shown = self._text(row) or "an empty name"
        what = f"is annotated ({self._said.where(row)}) but is not there"
        self._refuse("complete", shown, what, f"add it, or remove its {self._said.kept_by}")
        self._left_out["its image is not there"] += self._weight(row)

    def _refuse(self, check: str, image: str, what: str, why: str) -> None:
        self._findings.append(Finding(check, image, what, why))

    def _weight(self, row: int) -> int:
        """How many annotations a row is."""
        boxes, label = self._rows.boxes, self._rows.label
        if boxes is not None and boxes[row].is_valid:
            return len(boxes[row])
        own = self._rows.own
        if own is not None:
            return int(self._rows.extra[own.column][0][row].is_valid)
        return int(label is not None and label[row].is_valid)

    def _text(self, row: int) -> str:
        return decoded(self._texts[row].as_py())

    def _tell(self, how: str, text: str, meant: Meant, times: int = 1, more: str = "") -> None:
        """Keep that a text is read otherwise than it is written; the first one is told."""
        image = self._data.images[meant.places[0]]
        so_far = self._told.get(how)
        if so_far is None:
            so_far = 0, image, f"is called {text!r}", f" ({more})" if more else ""
        self._told[how] = (so_far[0] + times, *so_far[1:])

    def _tell_how(self) -> None:
        for how, (times, image, called, more) in self._told.items():
            what = f"{called}: {times:,} names of images {_TOLD[how]}{more}"
            self._findings.append(Finding("named as written", image, what, "they are read so", "WARN"))

    def _tell_noted(self) -> None:
        image_of = (
            {int(row): place for place, row in enumerate(self._row_of) if row >= 0}
            if self._said.noted
            else {}
        )
        for row, check, what, why, severity in self._said.noted:
            known = row in image_of
            if known or row >= len(self._rows):
                image = self._data.images[image_of[row]] if known else "an image without a row"
            else:
                image = self._text(row) or "an empty name"
            self._findings.append(Finding(check, image, what, why, severity))

    def _splits(self) -> NDArray[np.int8]:
        """The split of each image, or `NO_SPLIT`."""
        splits = np.full(len(self._data.images), NO_SPLIT, np.int8)
        if self._said.by_lot or self._stated.holdout is not None:
            return splits
        given = GivenSplits(self._said, self._finder)
        for place in range(len(splits)):
            row = int(self._row_of[place])
            if row >= 0 and self._rows.split[row] != NO_SPLIT:
                splits[place] = self._rows.split[row]
            elif (split := given.of(place, row)) is not None:
                splits[place] = SPLITS.index(split)
        self._findings += given.findings
        for told in given.told:
            self._tell(*told)
        if self._said.listed or self._said.folders:
            self._leave_out_unlisted(splits)
        return splits

    def _leave_out_unlisted(self, splits: NDArray[np.int8]) -> None:
        """What the source's splits do not name is neither of them, nor an image without objects."""
        for place in np.flatnonzero(splits == NO_SPLIT).tolist():
            row, name = int(self._row_of[place]), self._data.images[place]
            self._row_of[place] = -2
            if row < 0:
                what = f"{self._said.why_unlabelled}, and is in no split of the source"
                self._findings.append(Finding("annotated", name, what, "it is left out", "WARN"))
                self._images_left_out["without annotation"] += 1
                continue
            what, why = (
                "is in none of the source's lists or folders of splits",
                "it is left out; add it to one",
            )
            self._findings.append(Finding("in a split", name, what, why, "WARN"))
            self._images_left_out["in no split of the source"] += 1
            self._left_out["its image is in no split of the source"] += self._weight(row)

    def _gathered(self, splits: NDArray[np.int8]) -> Images:
        listed_only = self._listed_only()
        taken = np.flatnonzero(self._row_of >= 0)
        rows = self._rows.take(self._row_of[taken])
        names = self._data.images.encoded
        found = replace(rows, open=self._open, name=names.take(pa.array(taken)), split=splits[taken])
        background = self._unlabelled()
        self._supposed = 0 if self._stated.unlabelled else len(background) + listed_only
        if not background:
            return found.by_name()
        more = Gathering(self._open)
        for place in background:
            split = None if splits[place] == NO_SPLIT else SPLITS[splits[place]]
            more.add(self._data.images[place], ImageRecord(boxes=[], split=split))
        return joined_images(self._open, [found, more.images()]).by_name()

    def _listed_only(self) -> int:
        """How many images a format names that lists all, with no annotation; where these are to be no background, they
        are left out or refused."""
        boxes = self._rows.boxes
        if not self._said.lists_all or boxes is None:
            return 0
        empty = pc.equal(pc.list_value_length(boxes), 0).fill_null(False).to_numpy(zero_copy_only=False)
        places = np.flatnonzero((self._row_of >= 0) & empty[self._row_of])
        if self._stated.unlabelled in ("leave-out", "error"):
            for place in places.tolist():
                where = self._said.where(int(self._row_of[place]))
                self._without_annotation(place, f"has no annotation ({where})", self._stated.unlabelled)
            self._row_of[places] = -2
        return len(places)

    def _without_annotation(self, place: int, what: str, policy: Unlabelled) -> None:
        """Leave an image out, or have it refuse the batch."""
        severity: Severity = "ERROR" if policy == "error" else "WARN"
        why = "annotate it, or remove it" if policy == "error" else "it is left out"
        self._findings.append(Finding("annotated", self._data.images[place], what, why, severity))
        self._images_left_out["without annotation"] += 1

    def _unlabelled(self) -> list[int]:
        """Tell of the images that nothing was said of; those that show no object are to be kept."""
        policy, kept = self._stated.unlabelled or self._said.unlabelled, list[int]()
        if self._rows.label is not None and policy == "background":
            # Where images have one label each, none shows nothing.
            policy = "leave-out"
        folders = {
            self._data.images[place].rpartition("/")[0]
            for place in np.flatnonzero(self._row_of >= 0).tolist()
        }
        for place in np.flatnonzero(self._row_of == -1).tolist():
            name = self._data.images[place]
            what = self._said.why_unlabelled
            if place in self._contested:
                what, why = "is one of several that an annotation fits", "it is left out"
                self._findings.append(Finding("annotated", name, what, why, "WARN"))
                self._images_left_out["an annotation fits it and others"] += 1
            elif policy == "background" and (
                self._stated.unlabelled or name.rpartition("/")[0] in folders or self._said.among_data(name)
            ):
                why = "it is taken for an image without objects"
                kept.append(place)
                self._findings.append(Finding("annotated", name, what, why, "WARN"))
            else:
                self._without_annotation(place, what, policy)
        return kept
