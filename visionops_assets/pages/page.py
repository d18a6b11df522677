"""A page of words, tables and pictures, written once and shown as text, Markdown or HTML."""

import base64
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from resources.escaping import LONGEST_NAME, markdown, one_line

WIDTH = 110
LEAST_WIDTH = 40
_NOT_IN_ADDRESS = re.compile(r"[\s()<>|\\\x00-\x1f]")


@dataclass(frozen=True)
class Link:
    """Text that leads somewhere; without an address it is text."""

    text: str
    url: str = ""

    @property
    def address(self) -> str:
        """The address if it is a page's, elsewhere or beside this one; anything else, such as a script, is none."""
        return self.url if re.match(r"(https?://|[/#]|[\w-]+\.html$)", self.url) else ""

    def __str__(self) -> str:
        return self.text


Cell = str | Link


@dataclass(frozen=True)
class Heading:
    """The title of a part."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """Sentences."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """One line each."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows under column names; every row has as many cells as there are columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Facts:
    """Names and what they stand for."""

    rows: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True)
class Picture:
    """A PNG with its caption; text and Markdown show the caption only, which keeps metadata small."""

    png: bytes
    caption: str

    @property
    def data_uri(self) -> str:
        """The picture as an address that needs no server."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class Card:
    """Pictures, by `data:` addresses or those of files beside the page, with a title and what is known of them."""

    title: str
    facts: tuple[tuple[str, str], ...]
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gallery:
    """Cards, one beside the other; text and Markdown show a line of each."""

    cards: tuple[Card, ...]


Block = Heading | Paragraph | Bullets | Table | Facts | Picture | Gallery


@dataclass(frozen=True)
class Page:
    """A title and blocks, in order."""

    title: str
    blocks: tuple[Block, ...] = field(default_factory=tuple)

    def to_text(self) -> str:
        """For a terminal."""
        title = one_line(self.title)
        return "\n".join([title, "=" * min(len(title), WIDTH), *self._joined(_text)]) + "\n"

    def to_markdown(self, level: int = 1) -> str:
        """For Dagster's and MLflow's pages; the title is a heading of `level`."""
        lines = self._joined(lambda block: _markdown(block, level + 1))
        return "\n".join([f"{'#' * level} {markdown(self.title)}", *lines]) + "\n"

    def _joined(self, render: Callable[[Block], list[str]]) -> Iterator[str]:
        for block in self.blocks:
            yield ""
            yield from render(block)


def _text(block: Block) -> list[str]:
    match block:
        case Heading(text):
            return [one_line(text), "-" * min(len(one_line(text)), WIDTH)]
        case Paragraph(text):
            return textwrap.wrap(one_line(_flowing(text)), WIDTH)
        case Bullets(items):
            return [
                part
                for item in items
                for part in textwrap.wrap(
                    one_line(_flowing(item)), WIDTH, initial_indent="- ", subsequent_indent="  "
                )
            ]
        case Facts(rows):
            width = max((len(one_line(name)) for name, _ in rows), default=0)
            return [f"{one_line(name):<{width}}  {one_line(value)}{_address(value)}" for name, value in rows]
        case Table(columns, rows):
            names = tuple(one_line(name, LONGEST_NAME) for name in columns)
            return _columns(names, [tuple(one_line(cell, LONGEST_NAME) for cell in row) for row in rows])
        case Picture(_, caption):
            return [f"[picture: {one_line(caption)}]"]
        case Gallery(cards):
            return _text(Bullets(tuple(_line(card) for card in cards)))


def _markdown(block: Block, level: int) -> list[str]:
    match block:
        case Heading(text):
            return [f"{'#' * level} {markdown(text)}"]
        case Paragraph(text):
            return [markdown(text)]
        case Bullets(items):
            return [f"- {markdown(item)}" for item in items]
        case Facts(rows):
            return _markdown(Table(("", ""), tuple((name, value) for name, value in rows)), level)
        case Table(columns, rows):
            head = [_row([markdown(name) for name in columns]), _row(["---"] * len(columns))]
            return [*head, *(_row([_linked(cell) for cell in row]) for row in rows)]
        case Picture(_, caption):
            return [f"*{markdown(caption)}*"]
        case Gallery(cards):
            return _markdown(Bullets(tuple(_line(card) for card in cards)), level)


def _flowing(text: str) -> str:
    """A text whose lines were broken by whoever wrote it; it is wrapped anew."""
    return " ".join(text.split())


def _line(card: Card) -> str:
    return "; ".join([card.title, *(f"{name}: {value}" for name, value in card.facts)])


def _address(value: Cell) -> str:
    return f"  {one_line(value.address)}" if isinstance(value, Link) and value.address else ""


def _columns(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Aligned columns; the last one is wrapped where the line would be too long."""
    widths = [max(len(row[at]) for row in [columns, *rows]) for at in range(len(columns))]
    widths[-1] = min(widths[-1], max(LEAST_WIDTH, WIDTH - sum(width + 2 for width in widths[:-1])))
    lines = []
    for row in [columns, tuple("-" * width for width in widths), *rows]:
        wrapped = textwrap.wrap(row[-1], widths[-1]) or [""]
        lines.append(_padded((*row[:-1], wrapped[0]), widths))
        lines += [_padded((*[""] * (len(row) - 1), part), widths) for part in wrapped[1:]]
    return ["  ".join(line).rstrip() for line in lines]


def _padded(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if _is_number(cell) else cell.ljust(width)
        for cell, width in zip(cells, widths, strict=True)
    ]


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"[+-]?[\d,]+(\.\d+)?%?", cell))


def _linked(cell: Cell) -> str:
    if isinstance(cell, Link) and cell.address:
        return f"[{markdown(cell.text)}]({_NOT_IN_ADDRESS.sub(_quoted, cell.address)})"
    return markdown(cell)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _quoted(found: re.Match[str]) -> str:
    return quote(found[0], safe="")
