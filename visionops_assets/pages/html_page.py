"""A page as one HTML file that needs nothing from elsewhere: its Markdown, rendered by markdown-it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape, unescape
from pathlib import Path
from typing import TYPE_CHECKING

from resources.error_family import Invalid
from resources.escaping import NOTHING, one_line
from resources.safe_files import whole_file
from visionops_assets.pages.page import PICTURE, Gallery, Heading, Page, Picture

if TYPE_CHECKING:
    from markdown_it.token import Token

STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --soft: #5d6b7a; --line: #d9e0e7; --band: #f5f7f9;
  --paper: #ffffff; --accent: #1f6feb; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ee; --soft: #9aa7b4; --line: #36414d;
  --band: #1d252e; --paper: #141a21; --accent: #6ea8fe; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 1.2rem; padding-bottom: .9rem;
  border-bottom: 3px solid var(--accent); }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .7rem; }
p { margin: .6rem 0; max-width: 46rem; }
ul { padding-left: 1.2rem; max-width: 46rem; }
li { margin: .3rem 0; }
a { color: var(--accent); }
table { display: block; overflow-x: auto; border-collapse: collapse; font-size: .93rem; margin: .6rem 0;
  font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); white-space: nowrap; }
th, td { padding: .4rem .9rem .4rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
tbody tr:nth-child(even) { background: var(--band); }
table.facts thead { display: none; }
table.facts td:first-child { width: 12rem; font-weight: 600; color: var(--soft); white-space: nowrap; }
figure { margin: 1.2rem 0; }
figure img { max-width: 100%; height: auto; border: 1px solid var(--line); border-radius: 4px;
  image-rendering: pixelated; background: var(--band); }
ul.gallery { list-style: none; padding: 0; max-width: none; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 28rem), 1fr)); }
.gallery > li { margin: 0; padding: .8rem; border: 1px solid var(--line); border-radius: 6px; min-width: 0;
  overflow-wrap: anywhere; font-size: .93rem; }
.gallery img { max-width: min(100%, 24rem); height: auto; border-radius: 3px; background: var(--band);
  margin: 0 .5rem .4rem 0; vertical-align: top; }
.gallery > li > strong { display: block; font-size: .95rem; }
.gallery li ul { list-style: none; padding: 0; margin: .3rem 0 0; }
.gallery li li { margin: .15rem 0; } .gallery li li strong { font-weight: 400; color: var(--soft); }
.gallery em { color: var(--soft); }
main.broad { max-width: 92rem; }
figcaption { color: var(--soft); font-size: .9rem; margin-top: .4rem; }
@media print { main { max-width: none; padding: 0; } }
"""

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main{broad}>
{body}</main>
</body>
</html>
"""


def to_html(page: Page, pictures: Sequence[Picture] = (), *, pictures_title: str = "Images") -> str:
    """The page as HTML, with `pictures` (contact sheets) in a part of their own at the end.

    Everything from outside, a class name or a person's reason, is text; addresses other than http and relative ones
    are no links.
    """
    whole = Page(page.title, page.blocks + ((Heading(pictures_title), *pictures) if pictures else ()))
    return TEMPLATE.format(
        title=escape(one_line(page.title)),
        style=STYLE,
        broad=' class="broad"' if any(isinstance(block, Gallery) for block in page.blocks) else "",
        body=_body(*whole.with_pictures()),
    )


def write_html(page: Page, file: Path) -> None:
    """Write a page as HTML, whole or not at all. Raises ValueError for a file of another kind, and OSError."""
    if file.suffix.lower() not in (".html", ".htm"):
        raise Invalid(f"{file}: the page is HTML; name it {file.with_suffix('.html').name}")
    with whole_file(file) as unfinished:
        unfinished.write_text(to_html(page), encoding="utf-8")


def _body(markdown: str, sources: Sequence[str]) -> str:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(markdown)
    for at, token in enumerate(tokens):
        for child in token.children or ():
            _fill_in(child, sources)
        match token.type:
            case "bullet_list_open" if token.level == 0 and any(map(_is_pictured, _part(tokens, at))):
                token.attrSet("class", "gallery")
            case "table_open" if not any(each.content for each in _part(tokens, at, "thead_close")):
                token.attrSet("class", "facts")
            case "paragraph_open" if token.level == 0 and _is_pictured(tokens[at + 1]):
                _into_figure(tokens[at : at + 3])
    return str(parser.renderer.render(tokens, parser.options, {}))


def _part(tokens: "Sequence[Token]", at: int, end: str = "bullet_list_close") -> "Iterator[Token]":
    """From a token up to what ends it on its own level or one below."""
    for token in tokens[at:]:
        if token.type == end and token.level <= tokens[at].level + 1:
            return
        yield token


def _is_pictured(token: "Token") -> bool:
    return any(child.type == "image" for child in token.children or ())


def _fill_in(token: "Token", sources: Sequence[str]) -> None:
    token.content = token.content.replace(unescape(NOTHING), "")
    for child in token.children or ():
        _fill_in(child, sources)
    if token.type == "image":
        number = str(token.attrGet("src")).removeprefix(f"#{PICTURE}")
        token.attrs |= {"src": sources[int(number)], "loading": "lazy"}


def _into_figure(tokens: "Sequence[Token]") -> None:
    """A paragraph that is a picture, with its caption seen."""
    opened, inline, closed = tokens
    opened.tag = closed.tag = "figure"
    (image,) = inline.children or []
    caption = "".join(each.content for each in image.children or ())
    said = replace(image, type="html_inline", content=f"<figcaption>{escape(caption)}</figcaption>", attrs={})
    inline.children = [image, said]
