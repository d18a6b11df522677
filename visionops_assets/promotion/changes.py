"""What differs between two versions, or two dataset versions, as parts of a page."""

from collections.abc import Iterator, Sequence

from visionops_assets.dataset.versions.manifest_diff import ManifestDiff
from visionops_assets.pages.page import Block, Bullets, Paragraph, Table
from visionops_assets.training.provenance import Difference

ROWS = 40
VALUE_LENGTH = 60
# In the order in which they are told; the data has a part of its own.
KINDS = {"recipe": "Recipe", "code": "Code", "versions": "Packages", "hardware": "Hardware"}


def data_changes(data: ManifestDiff) -> Iterator[Block]:
    """Images added, removed, relabelled and moved: in words, then counted by batch and class."""
    yield Bullets(tuple(data.summary().splitlines()))
    if not data.empty:
        counts = data.counts()
        rows = [
            (str(change), str(batch), str(label), f"{images:,}")
            for change, batch, label, images in zip(
                counts["change"], counts["batch"], counts["label"], counts["images"], strict=True
            )
        ]
        yield from _cut(("change", "batch", "class", "images"), rows)


def input_changes(inputs: Sequence[Difference]) -> Iterator[Block]:
    """Recipe, code, packages and hardware: a table of what differs in each, or that nothing does."""
    same = []
    for kind, name in KINDS.items():
        found = [each for each in inputs if each.kind == kind]
        if found:
            rows = [(each.name, _short(each.before), _short(each.after)) for each in found]
            yield from _cut((name, "before", "after"), rows)
        else:
            same.append(name)
    if same:
        yield Paragraph(f"The same in both: {', '.join(same).lower()}.")


def _cut(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[Block]:
    yield Table(columns, tuple(rows[:ROWS]))
    if len(rows) > ROWS:
        yield Paragraph(f"{len(rows) - ROWS:,} more rows are left out.")


def _short(text: str) -> str:
    return text if len(text) <= VALUE_LENGTH else f"{text[: VALUE_LENGTH - 1]}…"
