"""What differs between two versions, or two dataset versions, as parts of a page.

Inputs, data, and the images won and lost: these in a table of the first for a terminal, or with pictures, all that
fit.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from edge.images.decode import Pixels, decode_whole
from edge.images.header import UnreadableImage
from resources.lakefs.client import MAIN, LakeFSResource
from visionops_assets.champions.registered_model import Registry
from visionops_assets.common.keys import commit_prefix
from visionops_assets.dataset.versions.manifest_diff import ManifestDiff
from visionops_assets.evaluation.evaluation_task import Said
from visionops_assets.evaluation.turned import Turned, WonAndLost, won_and_lost
from visionops_assets.images.pictures import ANSWER, Mark, data_uri, encoded, marked, written_under
from visionops_assets.pages.page import Block, Bullets, Card, Gallery, Heading, Paragraph, Table
from visionops_assets.promotion.version_evidence import Evidence, predictions_of_verdict
from visionops_assets.training.provenance import Difference

ROWS_OF_CHANGES = 40
VALUE_LENGTH = 60
# In the order in which they are told; the data has a part of its own.
INPUT_KINDS = {"recipe": "Recipe", "code": "Code", "versions": "Packages", "hardware": "Hardware"}
ReadImages = Callable[[list[str]], Iterable[tuple[str, object]]]


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
        yield from _table_cut_short(("change", "batch", "class", "images"), rows)


def input_changes(inputs: Sequence[Difference]) -> Iterator[Block]:
    """Recipe, code, packages and hardware: a table of what differs in each, or that nothing does."""
    same = []
    for kind, name in INPUT_KINDS.items():
        found = [each for each in inputs if each.kind == kind]
        if found:
            rows = [(each.name, _shortened(each.before), _shortened(each.after)) for each in found]
            yield from _table_cut_short((name, "before", "after"), rows)
        else:
            same.append(name)
    if same:
        yield Paragraph(f"The same in both: {', '.join(same).lower()}.")


def _table_cut_short(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[Block]:
    yield Table(columns, tuple(rows[:ROWS_OF_CHANGES]))
    if len(rows) > ROWS_OF_CHANGES:
        yield Paragraph(f"{len(rows) - ROWS_OF_CHANGES:,} more rows are left out.")


def _shortened(text: str) -> str:
    return text if len(text) <= VALUE_LENGTH else f"{text[: VALUE_LENGTH - 1]}…"


IMAGES_LISTED, IMAGES_PICTURED = 10, 24


@dataclass(frozen=True)
class ModelNames:
    """How a page calls the two models: `A` and `B`, or `this model` and `version 1`."""

    challenger: str
    champion: str


def images_at(lakefs: LakeFSResource, repository: str, commit: str) -> ReadImages:
    """Reads images of a commit; what cannot be read has its error in place of its bytes."""
    return lambda paths: lakefs.read_each(repository, commit, paths)


def list_turned(found: WonAndLost, names: ModelNames, how: str) -> Iterator[Block]:
    """The first images of each kind, in words; `how` says how they are seen, where there are any."""
    any_turned = False
    for title, images in _kinds_of_turn(found, names):
        any_turned = any_turned or bool(images)
        yield Heading(f"{title}: {_images_in_words(images)}")
        if images:
            columns = ("image", "truth", names.challenger, *((names.champion,) if images[0].champion else ()))
            yield Table(columns, tuple(_row_of_image(each) for each in images[:IMAGES_LISTED]))
    if closing := f"{_what_counts(found, names)} {how if any_turned else ''}".strip():
        yield Paragraph(closing)


def picture_turned(found: WonAndLost, names: ModelNames, read: ReadImages) -> Iterator[Block]:
    """The same with pictures, which the page holds itself."""
    for number, (title, images) in enumerate(_kinds_of_turn(found, names)):
        shown = images[:IMAGES_PICTURED]
        more = f", the {len(shown)} clearest of them here" if len(images) > len(shown) else ""
        yield Heading(f"{title}: {_images_in_words(images)}{more}")
        if found.meant is not None and not number:
            yield Paragraph(
                f"{_what_counts(found, names)} Green boxes are the truth, red ones what a model sees."
            )
        if shown:
            contents = dict(read([each.path for each in shown]))
            yield Gallery(tuple(_card_of_image(each, names, contents.get(each.path)) for each in shown))


def _what_counts(found: WonAndLost, names: ModelNames) -> str:
    """How a detector wins an image; of a classifier it needs no words."""
    if found.meant is None:
        return ""
    counted = f"boxes of a score of {found.meant[0]:g} and more"
    if not found.compared:
        return f"Errors are truths not found, and boxes too many; {counted} count."
    others = "" if found.meant[0] == found.meant[1] else f" ({names.champion}: of {found.meant[1]:g})"
    return (
        f"An image is won with fewer errors: truths not found, and boxes too many; {counted} count{others}."
    )


def turned_of_evidence(registry: Registry, evidence: Evidence) -> tuple[WonAndLost, ModelNames, str] | None:
    """What a version won and lost when it was judged, how a page calls the two, and the commit that has the images;
    None where its answers are gone."""
    predictions = predictions_of_verdict(registry, evidence)
    if predictions is None or evidence.verdict is None:
        return None
    before = evidence.verdict.champion
    called = (
        "no champion"
        if before is None
        else before.name()
        if before.version is None
        else f"version {before.version}"
    )
    names = ModelNames("this model", called)
    made = (evidence.made, evidence.predecessor)
    meant = [
        each.provenance.metrics.get("min_score") if each is not None and each.provenance is not None else None
        for each in made
    ]
    partition = evidence.decision.partition if evidence.decision is not None else None
    return won_and_lost(predictions, *meant), names, commit_prefix(partition) if partition else MAIN


def _kinds_of_turn(found: WonAndLost, names: ModelNames) -> Iterator[tuple[str, Sequence[Turned]]]:
    if not found.compared:
        yield f"Answered wrongly by {names.challenger}", found.wrong
        return
    yield f"Won by {names.challenger} against {names.champion}", found.won
    yield f"Lost by {names.challenger} against {names.champion}", found.lost


def _images_in_words(images: Sequence[Turned]) -> str:
    return f"{len(images):,} {'image' if len(images) == 1 else 'images'}"


def _row_of_image(image: Turned) -> tuple[str, ...]:
    champion = () if image.champion is None else (image.champion.words,)
    return image.path, image.truth.words, image.challenger.words, *champion


def _card_of_image(image: Turned, names: ModelNames, content: object) -> Card:
    said = [(names.challenger, image.challenger)]
    if image.champion is not None:
        said.append((names.champion, image.champion))
    facts = [
        ("truth", image.truth.words),
        *((name, each.words) for name, each in said),
        ("batch", image.batch),
    ]
    sources: list[str] = []
    if isinstance(content, bytes):
        try:
            pixels = decode_whole(content, image.path, 3)
        except UnreadableImage:
            pass
        else:
            sources = list(_pictures_of_image(pixels, image, said))
    return Card(image.path, tuple(facts), tuple(sources))


def _pictures_of_image(pixels: Pixels, image: Turned, said: Sequence[tuple[str, Said]]) -> Iterator[str]:
    """The image; of detectors once for each, with the truth in green and its boxes in red."""
    if not any(answer.boxes for answer in (image.truth, *(each for _, each in said))):
        yield data_uri(encoded(marked(pixels)))
        return
    truths = [Mark(box, str(box["label"])) for box in image.truth.boxes]
    for name, answer in said:
        boxes = [Mark(box, f"{box['label']} {box['score']:.2f}", ANSWER) for box in reversed(answer.boxes)]
        yield data_uri(encoded(written_under(marked(pixels, [*truths, *boxes]), [f"{name}: {answer.words}"])))
