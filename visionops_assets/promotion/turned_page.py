"""Images won and lost as parts of a page: a table of the first for a terminal, and all that fits with pictures."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from edge.images.decode import Pixels, decode_whole
from edge.images.header import UnreadableImage
from resources.lakefs.client import MAIN, LakeFSResource
from visionops_assets.evaluation.turned import Said, Turned, WonAndLost, won_and_lost
from visionops_assets.images.pictures import ANSWER, Mark, data_uri, encoded, marked, written_under
from visionops_assets.pages.page import Block, Card, Gallery, Heading, Paragraph, Table
from visionops_assets.partitions import commit_prefix
from visionops_assets.promotion.version_evidence import Evidence, answers_judged
from visionops_assets.registry import Registry

LISTED, PICTURED = 10, 24
Read = Callable[[list[str]], Iterable[tuple[str, object]]]


@dataclass(frozen=True)
class Names:
    """How a page calls the two models: `A` and `B`, or `this model` and `version 1`."""

    challenger: str
    champion: str


def images_at(lakefs: LakeFSResource, repository: str, commit: str) -> Read:
    """Reads images of a commit; what cannot be read has its error in place of its bytes."""
    return lambda paths: lakefs.read_each(repository, commit, paths)


def listed(found: WonAndLost, names: Names, how: str) -> Iterator[Block]:
    """The first images of each kind, in words; `how` says how the rest is seen."""
    for title, images in _kinds(found, names):
        yield Heading(f"{title}: {_counted(images)}")
        if images:
            columns = ("image", "truth", names.challenger, *((names.champion,) if images[0].champion else ()))
            yield Table(columns, tuple(_row(each) for each in images[:LISTED]))
    yield Paragraph(f"{_what_counts(found, names)} {how}".strip())


def pictured(found: WonAndLost, names: Names, read: Read) -> Iterator[Block]:
    """The same with pictures, which the page holds itself."""
    for number, (title, images) in enumerate(_kinds(found, names)):
        shown = images[:PICTURED]
        more = f", the {len(shown)} clearest of them here" if len(images) > len(shown) else ""
        yield Heading(f"{title}: {_counted(images)}{more}")
        if found.meant is not None and not number:
            yield Paragraph(
                f"{_what_counts(found, names)} Green boxes are the truth, red ones what a model sees."
            )
        if shown:
            contents = dict(read([each.path for each in shown]))
            yield Gallery(tuple(_card(each, names, contents.get(each.path)) for each in shown))


def _what_counts(found: WonAndLost, names: Names) -> str:
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


def of_evidence(registry: Registry, evidence: Evidence) -> tuple[WonAndLost, Names, str] | None:
    """What a version won and lost when it was judged, how a page calls the two, and the commit that has the images;
    None where its answers are gone."""
    predictions = answers_judged(registry, evidence)
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
    names = Names("this model", called)
    made = (evidence.made, evidence.predecessor)
    meant = [
        each.provenance.metrics.get("min_score") if each is not None and each.provenance is not None else None
        for each in made
    ]
    partition = evidence.judged.partition if evidence.judged is not None else None
    return won_and_lost(predictions, *meant), names, commit_prefix(partition) if partition else MAIN


def _kinds(found: WonAndLost, names: Names) -> Iterator[tuple[str, Sequence[Turned]]]:
    if not found.compared:
        yield f"Answered wrongly by {names.challenger}", found.wrong
        return
    yield f"Won by {names.challenger} against {names.champion}", found.won
    yield f"Lost by {names.challenger} against {names.champion}", found.lost


def _counted(images: Sequence[Turned]) -> str:
    return f"{len(images):,} {'image' if len(images) == 1 else 'images'}"


def _row(image: Turned) -> tuple[str, ...]:
    champion = () if image.champion is None else (image.champion.words,)
    return image.path, image.truth.words, image.challenger.words, *champion


def _card(image: Turned, names: Names, content: object) -> Card:
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
            sources = list(_pictures(pixels, image, said))
    return Card(image.path, tuple(facts), tuple(sources))


def _pictures(pixels: Pixels, image: Turned, said: Sequence[tuple[str, Said]]) -> Iterator[str]:
    """The image; of detectors once for each, with the truth in green and its boxes in red."""
    if not any(answer.boxes for answer in (image.truth, *(each for _, each in said))):
        yield data_uri(encoded(marked(pixels)))
        return
    truths = [Mark(box, str(box["label"])) for box in image.truth.boxes]
    for name, answer in said:
        boxes = [Mark(box, f"{box['label']} {box['score']:.2f}", ANSWER) for box in reversed(answer.boxes)]
        yield data_uri(encoded(written_under(marked(pixels, [*truths, *boxes]), [f"{name}: {answer.words}"])))
