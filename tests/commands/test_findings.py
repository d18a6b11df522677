"""`visionops findings`: everything an audit found, wherever the batch is, with pictures that need no server."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from desk import Desk
from PIL import Image

from resources.lakefs.client import MAIN
from tests.world import CLASSES, write_batch
from visionops_assets.dataset.batch_publishing import BatchRefused
from visionops_assets.dataset.findings_file import (
    FindingsMissing,
    FindingsUnreadable,
    read_findings,
    write_findings,
)
from visionops_assets.dataset.versions.layout import findings_path, ingest_branch


class Pictures(HTMLParser):
    """What a page shows and where it leads."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.cards = 0
        self._lists = 0
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = dict(attrs)
        if tag == "img":
            self.sources.append(found["src"] or "")
        if tag == "a":
            self.links.append(found["href"] or "")
        self._lists += tag == "ul"
        self.cards += tag == "li" and self._lists == 1

    def handle_endtag(self, tag: str) -> None:
        self._lists -= tag == "ul"


def refused(desk: Desk, folder: Path) -> None:
    with pytest.raises(BatchRefused):
        desk.run("import", "shapes", str(folder), "--batch", "week-02")


def test_every_finding_of_a_refused_batch_is_listed_with_its_label(desk: Desk, tmp_path: Path):
    folder = write_batch(tmp_path / "week", 120, seed=2, labels=dict.fromkeys(range(90), "<b>blob"))
    (folder / "0100.png").write_bytes(b"no image")
    refused(desk, folder)
    told = desk.json("findings", "shapes", "week-02")
    assert (told["outcome"], told["batch"]) == ("refused", "week-02")
    unknown = [one for one in told["findings"] if one["check"] == "labels known"]
    assert len(unknown) == 90, "a page's room is no limit"
    assert {one["label"] for one in unknown} == {"<b>blob"}
    (broken,) = (one for one in told["findings"] if one["check"] == "readable")
    assert broken["label"] == CLASSES[100 % 3], "what its source says, though it is in no annotations"

    written = desk.run("findings", "shapes", "week-02", "--to", str(tmp_path / "all.csv"))
    assert f"written: {tmp_path / 'all.csv'}" in written
    table = pd.read_csv(tmp_path / "all.csv")
    assert len(table) == len(told["findings"])
    assert table["image"].tolist() == [one["image"] for one in told["findings"]]
    with pytest.raises(ValueError, match=r"written as CSV; name the file all\.csv"):
        desk.run("findings", "shapes", "week-02", "--to", str(tmp_path / "all.xlsx"))


def test_pages_show_each_image_large_and_need_no_server(desk: Desk, tmp_path: Path):
    folder = write_batch(tmp_path / "week", 120, seed=2, labels=dict.fromkeys(range(105), "<b>blob"))
    (folder / "0110.png").write_bytes((folder / "0111.png").read_bytes())
    (folder / "0119.png").write_bytes(b"no image")
    refused(desk, folder)
    pages = tmp_path / "pages"
    assert f"written: {pages / 'index.html'}" in desk.run(
        "findings", "shapes", "week-02", "--html", str(pages)
    )

    index = Pictures(pages / "index.html")
    shown = {page.name: Pictures(page) for page in pages.glob("*.html")}
    assert {link for page in shown.values() for link in page.links} <= shown.keys(), "no link leads nowhere"
    assert len([name for name in shown if "labels-known" in name]) == 2, "105 do not stand on one page"
    assert sum(page.cards for page in shown.values()) == len(
        desk.json("findings", "shapes", "week-02")["findings"]
    )
    for page in shown.values():
        assert not page.tags & {"script", "link", "iframe", "b"}, "text of a label is text"
        for source in page.sources:
            with Image.open(pages / source) as picture:
                assert max(picture.size) >= 256
    assert index.links, "every check has a page"
    copies = next(page for name, page in shown.items() if "one-label-an-image" in name or "no-copies" in name)
    assert len(copies.sources) == 2, "what it is a copy of stands beside"
    text = "".join((pages / name).read_text() for name in shown)
    assert not re.findall(r"(?:src|href)=\"(?:https?:|//|/)", text)
    with pytest.raises(FileExistsError, match="name a new folder"):
        desk.run("findings", "shapes", "week-02", "--html", str(pages))


def test_findings_stay_with_a_batch_that_is_published_and_retracted(desk: Desk, tmp_path: Path):
    folder = write_batch(tmp_path / "week", 60, seed=2)
    (folder / "0010.png").write_bytes((folder / "0013.png").read_bytes())
    (folder / "0020.png").write_bytes((folder / "0023.png").read_bytes())
    labels = (folder / "labels.csv").read_text()
    (folder / "labels.csv").write_text(labels.replace("0020.png,cross", "0020.png,blob"))
    refused(desk, folder)
    assert desk.json("findings", "shapes", "week-02")["outcome"] == "refused"
    (folder / "labels.csv").write_text(labels)
    desk.run("import", "shapes", str(folder), "--batch", "week-02")
    published = desk.json("findings", "shapes", "week-02")
    assert published["outcome"] == "published"
    assert {one["check"] for one in published["findings"]} == {"no copies"}
    assert {one["other"].rpartition("/")[2] for one in published["findings"]} <= {
        "0010.png",
        "0013.png",
        "0020.png",
        "0023.png",
    }
    desk.run("retract", "shapes", "week-02", "--why", "another camera")
    retracted = desk.json("findings", "shapes", "week-02")
    assert (retracted["outcome"], retracted["findings"]) == ("retracted", published["findings"])
    desk.run("findings", "shapes", "week-02", "--html", str(tmp_path / "pages"))
    assert any((tmp_path / "pages" / "pictures").iterdir()), "its images are read where they still are"
    main = [entry.path for entry in desk.world.lakefs.objects("shapes", MAIN)]
    assert not [path for path in main if "week-02" in path]


def test_a_batch_without_findings_has_none_and_one_that_is_not_there_says_so(desk: Desk):
    desk.world.publish("week-01", 30, seed=1)
    assert desk.json("findings", "shapes", "week-01")["findings"] == []
    assert "0 findings" in desk.run("findings", "shapes", "week-01")
    with pytest.raises(FindingsMissing, match=r"week-09 was never published.*batches: week-01"):
        desk.run("findings", "shapes", "week-09")


def test_a_branch_that_a_killed_import_left_is_no_refusal(desk: Desk):
    lakefs = desk.world.lakefs
    desk.world.publish("week-01", 30, seed=1)
    branch = ingest_branch("shapes", "shapes", "week-02")
    lakefs.create_branch("shapes", branch)
    lakefs.write("shapes", branch, findings_path("week-02", "shapes"), b"half")
    with pytest.raises(FindingsMissing, match="week-02 was never published"):
        desk.run("findings", "shapes", "week-02")


def test_a_batch_of_an_earlier_version_says_how_its_findings_are_had(desk: Desk, tmp_path: Path):
    lakefs = desk.world.lakefs
    lakefs.create_repository("shapes")
    lakefs.create_branch("shapes", "old")
    lakefs.write("shapes", "old", "batches/week-00/images/a.png", b"an image")
    lakefs.save("shapes", "old", "Import batch week-00")
    lakefs.merge("shapes", "old", MAIN, "Publish batch week-00", {"visionops.batch": "week-00"})
    with pytest.raises(FindingsMissing, match=r"kept no findings: import it again.*--findings FILE\.csv"):
        desk.run("findings", "shapes", "week-00")
    folder = write_batch(tmp_path / "week", 30, seed=1)
    (folder / "0000.png").write_bytes((folder / "0003.png").read_bytes())
    desk.run("import", "shapes", str(folder), "--batch", "week-05", "--findings", str(tmp_path / "now.csv"))
    assert set(pd.read_csv(tmp_path / "now.csv")["check"]) >= {"no copies"}


def test_what_the_champion_suspects_is_told_apart(desk_of_promoted: Desk, tmp_path: Path):
    desk, right = desk_of_promoted, write_batch(tmp_path / "week", 60, seed=5)
    generator = np.random.default_rng(0)
    rows = (right / "labels.csv").read_text().splitlines()
    swapped = [rows[0]]
    for row in rows[1:]:
        name, label = row.split(",")
        swapped.append(
            f"{name},{CLASSES[(CLASSES.index(label) + 1) % 3] if generator.random() < 0.4 else label}"
        )
    (right / "labels.csv").write_text("\n".join(swapped))
    desk.run("import", "shapes", str(right), "--batch", "week-02")
    found = [one for one in desk.json("findings", "shapes", "week-02")["findings"] if "confidence" in one]
    assert found, "the champion is sure of some"
    for one in found:
        assert one["label"] != one["suspected"] in CLASSES
        assert 0.9 <= one["confidence"] <= 1


def test_a_findings_file_keeps_what_it_is_given_and_refuses_another_format():
    found: dict[str, list[Any]] = {
        "check": ["boxes", "readable"],
        "severity": ["ERROR", "WARN"],
        "image": ["batches/a/images/1.png", "odd-\udcff.png"],
        "what": ["x", "y"],
        "why": ["a\nb", "z"],
        "label": ["2 bolt", None],
        "suspected": [None, None],
        "confidence": [0.25, None],
        "box": [{"x": 1.0, "y": 2.0, "w": 3.0, "h": 4.0}, None],
        "other": [None, None],
    }
    table = pd.DataFrame(found, dtype=object)
    back = read_findings(write_findings(table), "f")
    assert back.iloc[0].to_dict() == table.iloc[0].to_dict()
    assert back["image"][1] == r"odd-\udcff.png"
    assert read_findings(write_findings(table.iloc[:0]), "f").empty
    with pytest.raises(FindingsUnreadable, match="f: is not a Parquet file"):
        read_findings(b"{}", "f")
    assert json.dumps(back["box"][0]) == '{"x": 1.0, "y": 2.0, "w": 3.0, "h": 4.0}'
