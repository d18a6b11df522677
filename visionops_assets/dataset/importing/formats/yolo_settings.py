"""The settings of YOLO, `data.yaml` and `obj.data`, and the splits that they name: folders, or lists of images.

Scalars of YAML are text as they stand: `off`, `007` and `1.10` are names of classes, not values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from visionops_assets.common.findings import Finding
from visionops_assets.dataset.importing.file_listing import Listing
from visionops_assets.dataset.importing.image_source import SourceError, quoted
from visionops_assets.dataset.importing.plain_text import read_text
from visionops_assets.dataset.importing.source_files import (
    DEPTH,
    SETTINGS,
    SourceFile,
    source_limits,
    too_much,
)
from visionops_assets.dataset.importing.split_names import SPLIT_NAMES
from visionops_assets.dataset.importing.statements import Stated

# In C where it is built: a settings file of a megabyte would take minutes else.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KEYS = ("train", "val", "valid", "validation", "test")


@dataclass
class Splits:
    """As `Said` has them; `read` are the lists and settings that were read."""

    listed: list[tuple[str, str, str, int]] = field(default_factory=list)
    folders: dict[str, str] = field(default_factory=dict)
    by_lot: bool = False
    read: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)


def lists_of(listing: Listing, settings: dict[str, Any], file: str, stated: Stated) -> Splits:
    """What the settings of YOLO say of splits."""
    splits = Splits()
    for name in listing.ending(".data"):
        settings = {**_pairs(read_text(listing.file(name), stated.encoding)), **settings}
        splits.read.add(name)
        file = name
    folders = {""} | {
        "/".join(parts[:count])
        for parts in {tuple(name.split("/")[:-1]) for name in listing.images}
        for count in range(1, len(parts) + 1)
    }
    others = set(listing.ending(".txt"))
    named = _Named(file, str(settings.get("path") or ""), listing, stated.encoding, folders, others, splits)
    for key in _KEYS:
        value = settings.get(key)
        entries = value if isinstance(value, list) else [value]
        for entry in (str(one).strip() for one in entries if one is not None and str(one).strip()):
            named.take(entry, key)
    named.leave_out_the_same()
    return splits


@dataclass(frozen=True)
class _Named:
    """What one settings file names, looked up among the `folders` and the `others` (text files) of the source; `base`
    is the folder that it says all lies in. `of` has the splits of each place."""

    file: str
    base: str
    listing: Listing
    encoding: str | None
    folders: set[str]
    others: set[str]
    splits: Splits
    of: dict[str, set[str]] = field(default_factory=dict)

    def take(self, entry: str, key: str) -> None:
        """One folder or list, named for a split."""
        file, splits = self.file, self.splits
        split, around = SPLIT_NAMES[key], "".join(f"{part}/" for part in file.split("/")[:-1])
        text = entry.lower().endswith(".txt")
        there = self.others if text else self.folders
        # From the file itself, where it does not lie at the top.
        inside = {name.removeprefix(around) for name in there if name.startswith(around)} if around else there
        place = _placed(entry, self.base, inside)
        place = place if place is None else around + place
        if place is None and around:
            place = _placed(entry, self.base, there)
        if place is None:
            what = f"names {entry} for {key}, which is not there"
            why = "correct it, or take it out"
            splits.findings.append(Finding("splits given", file, what, why, "WARN"))
            return
        self.of.setdefault(place, set()).add(split)
        if not text:
            splits.folders[place] = split
            return
        splits.read.add(place)
        lines = read_text(self.listing.file(place), self.encoding).splitlines()
        for number, line in enumerate(lines, start=1):
            if line.strip():
                splits.listed.append((line.strip(), split, place, number))

    def leave_out_the_same(self) -> None:
        """Where two splits name one place, none of them counts."""
        splits = self.splits
        for place, named in self.of.items():
            if len(named) > 1:
                what = f"names {place or '.'} for {' and for '.join(sorted(named))}"
                why = "so nothing is held out by it: the splits are drawn by lot"
                splits.findings.append(Finding("splits given", self.file, what, why, "WARN"))
                splits.listed, splits.folders, splits.by_lot = [], {}, True


def _placed(entry: str, base: str, there: Sequence[str] | set[str]) -> str | None:
    """Where something that settings name lies in the source: the longest end of its path that is there."""
    whole = f"{base}/{entry}".replace("\\", "/") if base else entry.replace("\\", "/")
    for path in (whole, entry.replace("\\", "/")):
        parts = [part for part in path.split("/") if part not in ("", ".", "..")]
        for start in range(len(parts)):
            if "/".join(parts[start:]) in there:
                return "/".join(parts[start:])
    # `.` is the source itself.
    return "" if entry.strip("./") == "" and "" in there else None


def _pairs(text: str) -> dict[str, str]:
    """The lines `key = value` of darknet."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def read_yaml(path: SourceFile, encoding: str | None = None) -> dict[str, Any]:
    """A mapping whose scalars are text; nothing at all is an empty one. Raises `SourceError`."""
    limits = source_limits()
    text = read_text(path, encoding, limits.settings, SETTINGS)
    try:
        _check_plain(text, path, limits.depth)
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        mark, lines = getattr(error, "problem_mark", None), text.splitlines()
        place = "it has a character that YAML does not allow"
        if mark is not None:
            # What is not closed is noticed at the end.
            number = min(mark.line + 1, max(1, len(lines)))
            shown = quoted(lines[number - 1].strip() if lines else "")
            place = f"line {number} ({shown}) does not fit what is before it"
        raise SourceError(f"{path}: is not YAML with a mapping: {place}") from error
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise SourceError(f"{path}: is not YAML with a mapping")
    found: dict[str, Any] = _value(node, path)
    return found


def _check_plain(text: str, path: SourceFile, deepest: int) -> None:
    """Refuse what makes much of little, before anything is made of it."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1 if event.start_mark else 0
            alias = quoted(f"*{event.anchor}")
            raise SourceError(
                f"{path}: line {line} has the alias {alias}, which is not followed; write out what it stands for"
            )
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > deepest:
            raise too_much(path, f"nests more than {deepest} deep", DEPTH)


def _value(node: yaml.Node, path: SourceFile) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [_value(one, path) for one in node.value]
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key, value in node.value:
            name = str(_value(key, path))
            if name in found:
                line = key.start_mark.line + 1
                raise SourceError(f"{path}: line {line}: {quoted(name)} stands twice; keep one")
            found[name] = _value(value, path)
        return found
    # Nothing written, or written as YAML writes nothing.
    plain = isinstance(node, yaml.ScalarNode) and node.style in (None, "") and node.value in ("", "~")
    return None if plain else node.value
