"""A page as one HTML file that needs nothing from elsewhere: no script, no font, no server."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resources.escaping import visible
from resources.safe_files import whole_file
from visionops_assets.pages.page import Gallery, Heading, Page, Picture

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
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .93rem; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); white-space: nowrap; }
th, td { padding: .4rem .9rem .4rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
tbody tr:nth-child(even) { background: var(--band); }
table.facts th { width: 12rem; }
figure { margin: 1.2rem 0; }
figure img { max-width: 100%; height: auto; border: 1px solid var(--line); border-radius: 4px;
  image-rendering: pixelated; background: var(--band); }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 28rem), 1fr)); gap: 1rem; }
.card { display: flex; flex-wrap: wrap; gap: .9rem; padding: .8rem; border: 1px solid var(--line); border-radius: 6px;
  align-items: flex-start; }
.card .seen { display: grid; gap: .6rem; max-width: 100%; }
.card img { max-width: min(100%, 24rem); height: auto; border-radius: 3px; background: var(--band); }
.card .said { flex: 1 1 9rem; min-width: 0; overflow-wrap: anywhere; font-size: .93rem; }
.card h3 { font-size: .95rem; margin: 0 0 .4rem; }
.card dl { margin: 0; } .card dt { color: var(--soft); font-size: .85rem; } .card dd { margin: 0 0 .35rem; }
.card .none { color: var(--soft); font-style: italic; }
main.broad { max-width: 92rem; }
figcaption { color: var(--soft); font-size: .9rem; margin-top: .4rem; }
@media print { main { max-width: none; padding: 0; } }
"""

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ page.title }}</title>
<style>{{ style }}</style>
</head>
<body>
<main{% if broad %} class="broad"{% endif %}>
<h1>{{ page.title }}</h1>
{%- macro cell(value) -%}
{%- if value.address is defined and value.address -%}
<a href="{{ value.address }}">{{ value.text }}</a>{%- else -%}{{ value }}{%- endif -%}
{%- endmacro %}
{%- for block in page.blocks %}
{%- set kind = block.__class__.__name__ %}
{%- if kind == "Heading" %}
<h2>{{ block.text }}</h2>
{%- elif kind == "Paragraph" %}
<p>{{ block.text }}</p>
{%- elif kind == "Bullets" %}
<ul>{% for item in block["items"] %}<li>{{ item }}</li>{% endfor %}</ul>
{%- elif kind == "Facts" %}
<div class="wide"><table class="facts"><tbody>
{%- for name, value in block.rows %}
<tr><th scope="row">{{ name }}</th><td>{{ cell(value) }}</td></tr>
{%- endfor %}
</tbody></table></div>
{%- elif kind == "Table" %}
<div class="wide"><table>
<thead><tr>{% for name in block.columns %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{%- for row in block.rows %}
<tr>{% for value in row %}<td>{{ cell(value) }}</td>{% endfor %}</tr>
{%- endfor %}
</tbody></table></div>
{%- elif kind == "Gallery" %}
<div class="gallery">
{%- for card in block.cards %}
<div class="card">
<div class="seen">{% for source in card.sources %}<img src="{{ source }}" alt="{{ card.title }}" loading="lazy">
{%- else %}<p class="none">no picture</p>{%- endfor %}</div>
<div class="said"><h3>{{ card.title }}</h3><dl>
{%- for name, value in card.facts %}<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor %}</dl></div></div>
{%- endfor %}
</div>
{%- elif kind == "Picture" %}
<figure><img src="{{ block.data_uri }}" alt="{{ block.caption }}"><figcaption>{{ block.caption }}</figcaption></figure>
{%- endif %}
{%- endfor %}
</main>
</body>
</html>
"""


def to_html(page: Page, pictures: Sequence[Picture] = (), *, pictures_title: str = "Images") -> str:
    """The page as HTML, with `pictures` (contact sheets) in a part of their own at the end.

    Everything from outside, a class name or a person's reason, is escaped; addresses other than http and
    relative ones are shown as text.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    def shown(value: Any) -> Any:
        return value if isinstance(value, Markup) else visible(str(value))

    blocks = page.blocks + ((Heading(pictures_title), *pictures) if pictures else ())
    environment = Environment(autoescape=True, undefined=StrictUndefined, finalize=shown)
    return environment.from_string(TEMPLATE).render(
        page=Page(page.title, blocks),
        style=Markup(STYLE),
        broad=any(isinstance(block, Gallery) for block in blocks),
    )


def write_html(page: Page, file: Path) -> None:
    """Write a page as HTML, whole or not at all. Raises ValueError for a file of another kind, and OSError."""
    if file.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{file}: the page is HTML; name it {file.with_suffix('.html').name}")
    with whole_file(file) as unfinished:
        unfinished.write_text(to_html(page), encoding="utf-8")
