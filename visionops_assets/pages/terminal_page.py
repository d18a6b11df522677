"""A page in a terminal: its Markdown, drawn by Rich."""

import io
from collections.abc import Sequence
from html import unescape
from typing import ClassVar

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.markdown import Heading, Markdown, MarkdownElement, TableElement
from rich.style import Style
from rich.table import Table
from rich.text import Text

from resources.escaping import LONGEST_NAME, NOTHING, one_line

WIDTH = 110
# What a column that wraps keeps.
LEAST_WIDTH = 30


def to_text(markdown: str) -> str:
    """The Markdown of a page as text of 110 columns, without colours."""
    written = io.StringIO()
    console = Console(
        file=written, width=WIDTH, color_system=None, force_terminal=False, force_jupyter=False, emoji=False
    )
    console.print(_Drawn(markdown), crop=False)
    return "".join(f"{line.rstrip()}\n" for line in written.getvalue().splitlines())


class _Title(Heading):
    """On a line of its own, underlined."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.text
        line = "=" if self.tag == "h1" else "-"
        yield Text(line * min(cell_len(self.text.plain), options.max_width))


class _Table(TableElement):
    """As wide as its words need: a digest or an address is copied, so it is neither cut nor broken."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        head = self.header.row.cells if self.header is not None and self.header.row is not None else []
        rows = [[cell.content for cell in row.cells] for row in (self.body.rows if self.body else [])]
        if any(cell.content.plain for cell in head):
            yield from _named([(cell.content, cell.justify) for cell in head], rows, console, options)
        else:
            yield from _facts(rows, console, options)


def _facts(rows: Sequence[Sequence[Text]], console: Console, options: ConsoleOptions) -> RenderResult:
    """Names, and beside them what they stand for, with its address."""
    names = [_shortened(name) for name, _ in rows]
    width = max((cell_len(name.plain) for name in names), default=0) + 2
    for name, (_, value) in zip(names, rows, strict=True):
        addresses = [span.style.link for span in value.spans if isinstance(span.style, Style)]
        said = Text("  ").join([value, *(Text(link) for link in addresses if link)])
        longest = [said.plain] if any(addresses) else said.plain.split()
        room = max([LEAST_WIDTH, options.max_width - width, *map(cell_len, longest)])
        for part in said.wrap(console, room) or [Text()]:
            line = Text.assemble(name, " " * (width - cell_len(name.plain)), part)
            yield from console.render(line, options.update(no_wrap=True, overflow="ignore"))
            name = Text()


def _named(
    head: Sequence[tuple[Text, JustifyMethod]],
    rows: Sequence[Sequence[Text]],
    console: Console,
    options: ConsoleOptions,
) -> RenderResult:
    """Columns under their names; those of words wrap, those of one word each do not."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    shown = [[_shortened(cell) for cell in row] for row in rows]
    least = 0
    for at, (title, justify) in enumerate(head):
        name = _shortened(title)
        widest = max(cell_len(each.plain) for each in (name, *(row[at] for row in shown)))
        whole = widest <= LEAST_WIDTH or not any(" " in row[at].plain for row in shown)
        table.add_column(name, justify=justify, no_wrap=whole, overflow="fold")
        least += (widest if whole else LEAST_WIDTH) + 2
    for row in shown:
        table.add_row(*row)
    width = max(options.max_width, least)
    yield from console.render(table, options.update(width=width, max_width=width))


class _Drawn(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "heading_open": _Title,
        "table_open": _Table,
    }

    def __init__(self, markdown: str) -> None:
        super().__init__(markdown)
        for token in self._flatten_tokens(self.parsed):
            if token.type == "text":
                token.content = token.content.replace(unescape(NOTHING), "")
            elif token.type == "code_inline":
                # A command is told from the words around it without colours too.
                token.content = f"`{token.content}`"


def _shortened(text: Text) -> Text:
    return text if len(text.plain) <= LONGEST_NAME else Text(one_line(text.plain, LONGEST_NAME))
