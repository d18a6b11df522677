"""Whatever a name is, every output shows it as text: no cursor moves, no line or cell begins, nobody is called."""

import csv
import io
import json
import logging
import re
import unicodedata
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from hostile_names import NAMES
from markdown_it import MarkdownIt
from PIL import Image

from resources import escaping
from resources.models.registry import ModelRegistry
from sensors.announced_events import Event, announcement_payload
from tests import processes
from tests.world import copy_registry
from visionops.cli import dataset as findings_verb
from visionops.terminal import EscapingStream
from visionops_assets.common.findings import Finding, findings_in_words, findings_table
from visionops_assets.dataset.findings_file import read_findings, write_findings
from visionops_assets.evaluation.presentation import confusion_picture
from visionops_assets.evaluation.verdict import (
    Comparison,
    Evidence,
    ModelReference,
    Reason,
    SliceRow,
    Verdict,
)
from visionops_assets.evaluation.verdict_wording import verdict_page
from visionops_assets.images.pictures import Captioned, contact_sheet, thumbnails_markdown
from visionops_assets.monitoring.labels_wanted import export_images
from visionops_assets.monitoring.presentation import drift_picture
from visionops_assets.pages.html_page import to_html
from visionops_assets.pages.page import Bullets, Card, Facts, Gallery, Heading, Link, Page, Paragraph, Table
from visionops_assets.shells import outputs

each_name = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
# What is not seen, turns the direction of text, or is no Unicode.
UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
JOINERS = {"\u200c", "\u200d"}
FORMULA = tuple("=+-@\t\r＝＋－＠")


def assert_text(said: str, *, lines: int | None = None) -> None:
    """It can be printed, and nothing in it is a command to a terminal."""
    odd = {one for one in said if unicodedata.category(one) in UNSEEN and one not in JOINERS} - {"\n", "\t"}
    assert not odd, ascii(odd)
    said.encode()
    if lines is not None:
        assert len(said.splitlines()) == lines, said[:400]


class Tags(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


def shape(page: str) -> list[tuple[str, list[str]]]:
    return [(tag, sorted(attributes)) for tag, attributes in Tags(page).tags]


def assert_markdown(write: Callable[[str], str], name: str) -> None:
    """A name changes no structure of a document, and mentions, refers to and links nothing in it."""
    said, plain = write(name), write("name")
    render = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render
    if name.strip():
        assert shape(render(said)) == shape(render(plain)), said[:400]
    assert_text(said, lines=len(plain.splitlines()))
    shown = Tags(render(said)).text
    assert not re.search(r"@\w|(?<!\w)[#!]\d|\bGH-\d|://|\bwww\.\w", shown), shown[:400]
    assert not re.search(r"(?m)^\s*/\w", said), "a quick action of GitLab"
    assert "<!--" not in said.replace("\\<", "")


def page_with(name: str) -> Page:
    return Page(
        f"title {name}",
        (
            Heading(name),
            Paragraph(name),
            Bullets((name, f"{name}: {name}")),
            Facts((("fact", name), (name, Link(name, "https://here.example/page")))),
            Table((name, "b"), ((name, Link(name, f"javascript:{name}")), ("x", name))),
            Gallery((Card(name, ((name, name),), ("data:image/png;base64,",)),)),
        ),
    )


@each_name
def test_a_page_shows_a_name_as_text(name: str) -> None:
    page, plain = page_with(name), page_with("name")
    assert_text(page.to_text())
    assert_text(to_html(page))
    assert shape(to_html(page)) == shape(to_html(plain))
    links = {attributes["href"] for tag, attributes in Tags(to_html(page)).tags if tag == "a"}
    assert links == {"https://here.example/page"}


@each_name
@pytest.mark.parametrize("block", range(4))
def test_a_page_as_markdown_calls_nobody(name: str, block: int) -> None:
    def write(name: str) -> str:
        kinds = (Heading(name), Paragraph(name), Bullets((name,)), Table(("a", name), ((name, Link(name)),)))
        return Page(f"title {name}", (kinds[block],)).to_markdown()

    assert_markdown(write, name or "name")


@pytest.mark.parametrize("number", ["90.0%", "+4.00", "-1.2", "0.0059", "1,797", "2026-11-03"])
def test_a_number_stands_in_markdown_as_it_is(number: str) -> None:
    """Where Markdown is printed raw, as by --markdown, nobody reads `90\\.0%`."""
    table = Table(("a", "b"), ((number, f"{number} of 10"),))
    said = Page("title", (table, Paragraph(f"{number} of all"), Bullets((number,)))).to_markdown()
    assert f"| {number} | {number} of 10 |" in said
    assert f"\n{number} of all\n\n- {number}\n" in said


@pytest.mark.parametrize("start", ["1.", "12)", "-", "+", "---", "===", "- - -", "/close"])
def test_what_begins_a_block_is_still_text(start: str) -> None:
    for text in (start, f"{start} x"):
        said = Page("title", (Paragraph("above"), Paragraph(text))).to_markdown()
        rendered = MarkdownIt("commonmark").render(said)
        assert shape(rendered) == [("h1", []), ("p", []), ("p", [])], said
        assert text in Tags(rendered).text


def verdict_about(name: str) -> Verdict:
    known = escaping.storable(name)
    row = SliceRow(
        column="group",
        value=known,
        rows=10,
        groups=2,
        challenger=0.5,
        champion=0.9,
        critical=True,
        floor_reason=known,
    )
    return Verdict(
        verdict="FAIL",
        kind="what_if",
        project="shapes",
        challenger=ModelReference(weights_sha256="a" * 64),
        champion=ModelReference(weights_sha256="b" * 64),
        holdout_digest="c" * 64,
        rules_digest="d" * 64,
        k=1,
        alpha=0.05,
        alpha_k=0.05,
        claimed_against="no difference",
        reasons=[Reason(effect="FAIL", rule="slice", subject=known, text=f"group {known} got worse")],
        evidence=Evidence(
            rows=10,
            groups=2,
            primary=Comparison(
                metric="accuracy", unit="share", challenger=0.5, champion=0.9, difference=-0.4
            ),
            slices=[row],
            present_classes=2,
        ),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


@each_name
def test_a_verdict_shows_a_name_as_text_and_keeps_it(name: str) -> None:
    # A sentence may have code in it.
    if "`" not in name:
        assert_markdown(lambda name: verdict_page(verdict_about(name)).to_markdown(), name)
    verdict = verdict_about(name)
    again = Verdict.from_json(verdict.to_json())
    assert again.evidence is not None and again.evidence.slices[0].value == escaping.storable(name)


def findings_on(name: str) -> pd.DataFrame:
    found = Finding(
        "unreadable", name, f"what is {name}", f"why {name}", "ERROR", suspected=name, confidence=0.5
    )
    return findings_table([found])


@each_name
def test_findings_are_lines_cells_without_formulas_and_keep_their_text(name: str, tmp_path: Path) -> None:
    findings = findings_on(name)
    assert_text(findings_in_words(findings), lines=2)
    file = tmp_path / "findings.csv"
    findings_verb.write_csv(findings, file)
    (row,) = rows_of(file)
    for cell in row.values():
        assert not cell.lstrip(" ").startswith(FORMULA), cell[:80]
        assert_text(cell)
    kept = read_findings(write_findings(findings), "findings.parquet")
    assert kept["image"].item() == kept["suspected"].item() == escaping.storable(name)


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def wanted(name: str) -> pd.DataFrame:
    capture = "captures/dt=2026-01-01/a.png"
    return pd.DataFrame(
        [{"capture": capture, "image_sha256": "a", "prediction": name, "confidence": 0.5, "why": name, "device": name}]
    )  # fmt: skip


@each_name
@pytest.mark.parametrize("task", ["classification", "detection"])
def test_what_comes_back_from_labelling_keeps_its_text_and_what_does_not_is_no_formula(
    name: str, task: str, tmp_path: Path
) -> None:
    # What production logged is Unicode.
    name = escaping.storable(name)
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    frames = [("captures/dt=2026-01-01/a.png", buffer.getvalue())]
    export_images(tmp_path / "out", wanted(name), frames, task=task, classes=("bolt",), boxes={})
    file = tmp_path / "out" / ("labels.csv" if task == "classification" else "wanted.csv")
    (row,) = rows_of(file)
    if task == "classification":
        assert row["suggestion"] == name
    else:
        assert not row["device"].lstrip(" ").startswith(FORMULA) and not row["why"].lstrip(" ").startswith(
            FORMULA
        )


@each_name
def test_a_webhook_rings_nobodys_bell(name: str) -> None:
    event = Event(
        "errors", name, "error", name, f"happened to {name}", name, name, "https://here.example/run"
    )
    told = json.loads(json.dumps(announcement_payload(event)))
    texts = [told["text"], told["attachments"][0]["fallback"]]
    texts += [field["value"] for field in told["attachments"][0]["fields"]]
    for text in texts:
        assert not re.search(r"[<>]|@\w|&(?!amp;|lt;|gt;)", text), text[:200]
        assert_text(text.replace("@\u200b", "@"))
    assert len(told["text"].splitlines()) == 3 and len(told["text"]) < 250_000


@each_name
def test_dagsters_metadata_can_be_stored_and_sent(name: str) -> None:
    shown: dict[str, Any] = {
        "table": outputs.table(pd.DataFrame([{"name": name, "number": 1}])),
        "lines": outputs.lines("name", name),
        "picture": outputs.picture(b"png", name),
        "thumbnails": dg.MetadataValue.md(
            thumbnails_markdown([Captioned(np.zeros((4, 4, 1), np.uint8), name)])
        ),
    }
    event = dg.AssetMaterialization("asset", metadata=shown)
    # The UI sends the text itself in UTF-8.
    json.dumps(dg.serialize_value(event), ensure_ascii=False).encode()
    text = shown["picture"].value
    assert shape(MarkdownIt().render(text)) == [("p", []), ("img", ["alt", "src"])], text[:200]
    thumbnail = MarkdownIt("commonmark").enable("table").render(shown["thumbnails"].value)
    assert [tag for tag, _ in shape(thumbnail)] == ["table", "thead", "tr", "th", "img", "tbody", "tr", "td"]


@pytest.mark.slow
@each_name
def test_pictures_are_drawn(name: str) -> None:
    assert contact_sheet([Captioned(np.zeros((4, 4, 1), np.uint8), name)]).startswith(b"\x89PNG")
    confusion = pd.DataFrame([[1, 2], [3, 4]], index=[name, "b"], columns=[name, "b"])
    assert confusion_picture(confusion, title=name).startswith(b"\x89PNG")
    days = pd.DataFrame({"column": [name], "distance": [1.0], "threshold": [2.0], "drifted": [True]})
    assert (drift_picture(days, name) or b"").startswith(b"\x89PNG")


@each_name
def test_a_log_record_is_one_record(name: str) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(escaping.RecordFormatter("%(levelname)s %(message)s"))
    handler.emit(logging.makeLogRecord({"msg": f"refused: {name}", "levelname": "WARNING"}))
    said = stream.getvalue()
    assert_text(said)
    first, *others = said.rstrip("\n").split("\n")
    assert first.startswith("WARNING refused: ") and all(other.startswith("  ") for other in others)


@each_name
def test_a_terminal_gets_text(name: str) -> None:
    bytes_ = io.BytesIO()
    below = io.TextIOWrapper(bytes_, encoding="utf-8")
    stream = EscapingStream(below)
    print(f"a {name} b", file=stream, flush=True)
    assert_text(bytes_.getvalue().decode())
    assert stream.rich_proxied_file is below


def test_a_command_prints_and_fails_in_text(tmp_path: Path) -> None:
    """Through the real entrance, what it prints and what it fails with."""
    report = tmp_path / "report.md"
    report.write_text("".join(map(escaping.storable, NAMES.values())), encoding="utf-8")
    environment = {"VISIONOPS_HOME": str(tmp_path / "home"), "HOME": str(tmp_path), "PATH": ""}
    for number, name in enumerate(("report.md", "a\nerror: forged\x1b[2J\u202e\rerror")):
        said = tmp_path / f"said-{number}"
        ended = processes.visionops("comment", str(tmp_path / name), environment=environment, said=said)
        assert ended.code == 1
        assert_text(said.read_text(encoding="utf-8"))
        assert len(re.findall(r"(?m)^error", ended.said)) == 1


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Iterator[ModelRegistry]:
    root = tmp_path_factory.mktemp("registry")
    copy_registry(mlflow_template, root)
    yield ModelRegistry(tracking_uri=f"sqlite:///{root / 'mlflow.db'}")


def test_mlflow_keeps_what_is_unicode_and_refuses_nothing_for_its_letters(registry: ModelRegistry) -> None:
    names = {f"name-{number}": name[:4000] for number, name in enumerate(NAMES.values())}
    run = registry.runs.start("shapes", f"run {NAMES['newline']} {NAMES['surrogate']}", names)
    registry.runs.log_params(run.id, names)
    found = registry.runs.get(run.id)
    assert_text(found.name, lines=1)
    for key, name in names.items():
        assert found.tags[key] == found.params[key] == escaping.storable(name)
        registry.models.set_tag("shapes", key, name)


@pytest.mark.parametrize(
    "name", ["x` @ada", "`", "``@ada`", "\\`<b>`", "a``b`@ada``", "`@ada`#1", "` `<i>` @ada"]
)
def test_backticks_of_a_name_free_nothing_of_a_sentence(name: str) -> None:
    said = escaping.sentence(f"group {name} got worse, see `visionops diff my_parts` and <b> @bob")
    tokens = MarkdownIt("commonmark").parseInline(said)[0].children or []
    assert {token.type for token in tokens} <= {"text", "code_inline", "text_special", "entity"}
    text = "".join(token.content for token in tokens if token.type != "code_inline")
    assert not re.search(r"@\w|(?<!\w)#\d", text)


def test_a_command_in_a_sentence_stays_as_it_is_typed() -> None:
    said = escaping.sentence("see `visionops diff my_parts a@b` or _that_")
    assert said == r"see `visionops diff my_parts a@b` or \_that\_"
