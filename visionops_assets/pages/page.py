"""A page of words, tables and pictures, written once, as Markdown, from which a terminal and HTML are drawn.

All text is escaped here and nowhere else: what comes from outside is text in every form.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from resources.escaping import NOTHING, markdown, sentence

# With `#`, how Markdown names the picture of that number; see `Page.with_pictures`.
PICTURE = "picture-"
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


@dataclass(frozen=True)
class Sentence:
    """A sentence of ours: commands between backticks are code. `lead` stands before it in bold."""

    text: str
    lead: str = ""

    def __str__(self) -> str:
        return f"{self.lead} {self.text}".strip()


Cell = str | Link
Words = str | Sentence


@dataclass(frozen=True)
class Heading:
    """The title of a part."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """Sentences."""

    text: Words


@dataclass(frozen=True)
class Bullets:
    """One line each."""

    items: tuple[Words, ...]


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
    """A PNG with its caption; only HTML shows more than the caption, which keeps metadata small."""

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
    """Cards, one beside the other; only HTML shows their pictures."""

    cards: tuple[Card, ...]


Block = Heading | Paragraph | Bullets | Table | Facts | Picture | Gallery


@dataclass(frozen=True)
class Page:
    """A title and blocks, in order."""

    title: str
    blocks: tuple[Block, ...] = field(default_factory=tuple)

    def to_markdown(self) -> str:
        """For Dagster's, MLflow's and a forge's pages."""
        return self._written(None)

    def with_pictures(self) -> tuple[str, list[str]]:
        """The same with its pictures, `![caption](#picture-N)`, and the address of each by its number."""
        sources: list[str] = []
        return self._written(sources), sources

    def to_text(self) -> str:
        """For a terminal."""
        from visionops_assets.pages.terminal_page import to_text

        return to_text(self.to_markdown())

    def _written(self, sources: list[str] | None) -> str:
        parts = [f"# {_text(self.title)}", *(_markdown(block, sources) for block in self.blocks)]
        return "\n\n".join(part for part in parts if part) + "\n"


def markdown_of(*blocks: Block) -> str:
    """Blocks without a title, for a place that has one."""
    return "\n\n".join(_markdown(block, None) for block in blocks)


def _markdown(block: Block, sources: list[str] | None) -> str:
    match block:
        case Heading(text):
            return f"## {_text(text)}"
        case Paragraph(words):
            return _words(words)
        case Bullets(items):
            return "\n".join(f"- {_words(item)}" for item in items)
        case Facts(rows):
            return _table(("", ""), tuple((name, value) for name, value in rows))
        case Table(columns, rows):
            return _table(columns, rows)
        case Picture(_, caption):
            return f"*{_text(caption)}*" if sources is None else _picture(caption, block.data_uri, sources)
        case Gallery(cards):
            return "\n".join(line for card in cards for line in _card(card, sources))


def _text(text: object) -> str:
    # What is blank would be no heading, no paragraph and no item.
    return markdown(text) or NOTHING


def _words(words: Words) -> str:
    match words:
        case Sentence(text, lead):
            said = sentence(text)
            return f"**{_text(lead)}** {said}" if lead else said
        case text:
            return _text(" ".join(text.split()))


def _table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    marks = [
        "---:" if rows and all(_is_number(str(row[at])) for row in rows) else "---"
        for at in range(len(columns))
    ]
    lines = [[markdown(name) for name in columns], marks, *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"[+-]?[\d,]+(\.\d+)?%?|–", cell))


def _cell(cell: Cell) -> str:
    if isinstance(cell, Link) and cell.address:
        return f"[{markdown(cell.text)}]({_NOT_IN_ADDRESS.sub(_quoted, cell.address)})"
    return markdown(cell)


def _picture(caption: str, source: str, sources: list[str]) -> str:
    sources.append(source)
    return f"![{markdown(caption)}](#{PICTURE}{len(sources) - 1})"


def _card(card: Card, sources: list[str] | None) -> list[str]:
    shown = [] if sources is None else [_picture(card.title, each, sources) for each in card.sources]
    if sources is not None and not shown:
        shown = ["*no picture*"]
    facts = [f"  - **{_text(name)}:** {_text(value)}" for name, value in card.facts]
    return [f"- {' '.join([*shown, f'**{_text(card.title)}**'])}", *facts]


def _quoted(found: re.Match[str]) -> str:
    return quote(found[0], safe="")
