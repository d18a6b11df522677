"""Why a model is in production, as people read it."""

import hashlib
import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from promotion_world import PROJECT, FakeRegistry, hour, judged, trained

from resources.models.records import PROVENANCE_ARTIFACT, TAG_WEIGHTS, ModelNotFound, Run
from visionops_assets.config.recipe import InputSpec, Recipe
from visionops_assets.dataset.versions.annotations import write_annotations
from visionops_assets.dataset.versions.layout import annotations_path
from visionops_assets.dataset.versions.manifest import AnnotationsFile, Manifest, build_manifest
from visionops_assets.evaluation.approvals import override
from visionops_assets.evaluation.verdict import Bound, Comparison, Evidence
from visionops_assets.pages.html_page import to_html
from visionops_assets.pages.page import Picture
from visionops_assets.promotion.explain import Links, why
from visionops_assets.promotion.production_change import Attribution
from visionops_assets.promotion.promote import promote
from visionops_assets.promotion.rollback import rollback
from visionops_assets.training.challenger import MANIFEST_ARTIFACT
from visionops_assets.training.provenance import CodeOrigin, DataOrigin, Provenance

EVIDENCE = Evidence(
    rows=120,
    groups=100,
    present_classes=2,
    primary=Comparison(
        metric="accuracy",
        unit="share",
        challenger=0.95,
        champion=0.92,
        difference=0.03,
        lower=Bound(value=0.01, level=0.05, method="bca"),
        upper=Bound(value=0.05, level=0.05, method="bca"),
        p_superior=0.004,
    ),
)
LINKS = Links(
    commit=lambda repository, commit: f"http://lakefs/repositories/{repository}/commits/{commit}",
    compare=lambda repository, before, after: f"/compare?ref={before}&compare={after}",
    run=lambda run_id: f"http://mlflow/#/runs/{run_id}",
    version=lambda project, version: f"http://mlflow/#/models/{project}/versions/{version}",
)


class MemoryStore:
    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def exists(self, key: str) -> bool:
        return key in self.contents

    def read(self, key: str) -> bytes:
        return self.contents[key]

    def write_once(self, key: str, content: bytes) -> None:
        self.contents.setdefault(key, content)


class World(FakeRegistry):
    """A registry whose runs also hold manifests and provenance."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()

    def train(self, name: str, batches: dict[str, list[str]], **changed: object) -> Run:
        """Train on batches of labels; `changed` replaces `epochs`, `packages` or `revision`."""
        run = trained(self, name)
        manifest = self._manifest(batches)
        provenance = Provenance(
            project=PROJECT,
            task="classification",
            identity="i" * 64,
            data=DataOrigin(
                repository="scans",
                annotations="labels",
                commit=hashlib.sha256(name.encode()).hexdigest(),
                manifest_digest=manifest.digest,
                classes=("0", "1"),
                train_samples=manifest.rows - 2,
                validation_samples=1,
            ),
            recipe=Recipe(input=InputSpec(height=8, width=8, channels=1), epochs=changed.get("epochs", 5)),
            recipe_digest="r" * 64,
            code=CodeOrigin(
                digest="c" * 64, revision=changed.get("revision", "f" * 40), uncommitted_sha256=None
            ),
            packages=changed.get("packages", {"python": "3.11.7", "torch": "2.13.0"}),
            hardware={"machine": "x86_64"},
            weights_sha256=run.tags[TAG_WEIGHTS],
            onnx_sha256=None,
            metrics={},
        )
        self.files[run.id, PROVENANCE_ARTIFACT] = provenance.to_json().encode()
        self.files[run.id, MANIFEST_ARTIFACT] = json.dumps(manifest.to_json()).encode()
        return run

    def promote(self, run: Run, at: float) -> None:
        """Judge with evidence and promote."""
        verdict = judged(self, run, evidence=EVIDENCE)
        promote(self, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(at))

    def _manifest(self, batches: dict[str, list[str]]) -> Manifest:
        contents = {}
        for batch, labels in batches.items():
            path = annotations_path(batch, "labels")
            frame = pd.DataFrame(
                {
                    "path": [f"batches/{batch}/images/{i:03}.png" for i in range(len(labels))],
                    "sha256": [
                        hashlib.sha256(f"{batch}{i}".encode()).hexdigest() for i in range(len(labels))
                    ],
                    "phash": "0123456789abcdef",
                    "width": 8,
                    "height": 8,
                    "size": 100,
                    "split": "train",
                    "label": labels,
                }
            )
            contents[path] = write_annotations(frame, path)
        files = [AnnotationsFile(path, hashlib.md5(data).hexdigest()) for path, data in contents.items()]
        return build_manifest(files, lambda paths: [(path, contents[path]) for path in paths], self.store)


@pytest.fixture
def world() -> World:
    """Version 2 replaced version 1: two images more, one relabelled, other epochs, another torch."""
    world = World()
    world.promote(world.train("one", {"week-1": ["0", "0", "1"]}), at=1)
    run = world.train(
        "two",
        {"week-1": ["0", "1", "1"], "week-2": ["0", "1"]},
        epochs=9,
        packages={"python": "3.11.7", "torch": "2.14.0"},
    )
    world.promote(run, at=2)
    return world


def test_page_says_why_on_what_and_what_changed(world: World) -> None:
    text = why(world, world.store, PROJECT, links=LINKS).to_text()
    for expected in (
        "digits: version 2 is in production",
        "version 2 promoted, replacing version 1, by sensor: PASS",
        "It is PASS by fiat",
        "95.0%",
        "92.0%",
        "+3.00 points",
        "+1.00 points to +5.00 points",
        "0.004",
        "labelled images    5",
        "http://lakefs/repositories/scans/commits/",
        "What changed against version 1",
        "week-2: 2 images added (0: 1, 1: 1).",
        "week-1: 1 image relabelled (0 → 1: 1).",
        "torch     2.13.0  2.14.0",
        "epochs",
        "The same in both: code, hardware.",
    ):
        assert expected in text, expected


def test_what_changed_is_data_too(world: World) -> None:
    found = why(world, world.store, PROJECT)
    assert found.data is not None and found.inputs is not None
    assert (len(found.data.added), len(found.data.relabelled)) == (2, 1)
    named = {(each.kind, each.name) for each in found.inputs}
    assert {("recipe", "epochs"), ("versions", "torch")} <= named


def test_first_model_is_compared_with_none(world: World) -> None:
    first = why(world, world.store, PROJECT, version=1)
    assert "was in production until 2026-03-02 10:00" in first.to_text()
    assert "first model of this project" in first.to_text() and first.data is None


def test_rolled_back_model_is_explained_by_the_rollback_and_by_its_own_verdict(world: World) -> None:
    world.promote(world.train("three", {"week-1": ["0", "1", "1"]}), at=3)
    rollback(world, project=PROJECT, by=Attribution("ada", hour(4), "missed scratches"))
    text = why(world, world.store, PROJECT).to_text()
    assert "rolled back to version 2, replacing version 3, by ada: missed scratches" in text
    assert "Promotion is on hold" in text and "What changed against version 1" in text


def test_override_is_said_first(world: World) -> None:
    run = world.train("three", {"week-1": ["0", "1", "1"]})
    verdict = judged(world, run, "FAIL", evidence=EVIDENCE)
    override(world, PROJECT, verdict.identity, who="ada", when=hour(3), why="recall")
    promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(4))
    text = why(world, world.store, PROJECT).to_text()
    assert "ada promoted it against the verdict: recall" in text and "FAIL" in text


@pytest.mark.parametrize("lost", [PROVENANCE_ARTIFACT, MANIFEST_ARTIFACT, "verdict", "version"])
def test_what_is_missing_is_said_and_the_rest_is_told(world: World, lost: str) -> None:
    if lost == "version":
        del world.made[1]
    elif lost == "verdict":
        for run, path in list(world.files):
            if path.startswith("verdicts/"):
                del world.files[run, path]
    else:
        del world.files["run-one", lost]
    text = why(world, world.store, PROJECT).to_text()
    said = {
        PROVENANCE_ARTIFACT: "The provenance of one of them is missing",
        MANIFEST_ARTIFACT: "The manifest of one of them is missing",
        "verdict": "No stored verdict says why",
        "version": "deleted from the registry",
    }
    assert said[lost] in text and "digits: version 2 is in production" in text


def test_nothing_in_production_and_unknown_versions_are_errors_that_say_so(world: World) -> None:
    with pytest.raises(ModelNotFound, match="digits has no model in production: `visionops status digits`"):
        why(FakeRegistry(), world.store, PROJECT)
    with pytest.raises(ModelNotFound, match="version 9"):
        why(world, world.store, PROJECT, version=9)


class Tags(HTMLParser):
    """Counts tags and keeps addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]


@pytest.fixture
def hostile(world: World) -> World:
    """A batch and a reason written by somebody who wants to be executed."""
    evil = "<script>alert(1)</script>|`x`"
    world.promote(world.train("three", {"week-1": ["0", evil, "1"]}), at=3)
    rollback(world, project=PROJECT, by=Attribution(evil, hour(4), f"{evil} [a](javascript:b)"), to=1)
    rollback(world, project=PROJECT, by=Attribution("ada", hour(5), "fine"), to=3)
    return world


def test_report_is_one_file_and_names_from_outside_stay_text(hostile: World) -> None:
    found = why(hostile, hostile.store, PROJECT, links=LINKS)
    html = to_html(found.page, [Picture(b"\x89PNG...", "added in <week-1>")])
    tags = Tags()
    tags.feed(html)
    assert "script" not in tags.seen and tags.seen.count("img") == 1 and tags.seen.count("h1") == 1
    assert "alert(1)" in html and "added in &lt;week-1&gt;" in html
    pictures = [each for each in tags.addresses if each.startswith("data:image/png;base64,")]
    assert len(pictures) == 1
    assert all(each.startswith(("http://", "/", "data:image/png")) for each in tags.addresses)


def test_markdown_from_outside_makes_no_link_tag_or_cell(hostile: World) -> None:
    markdown = why(hostile, hostile.store, PROJECT, links=LINKS).to_markdown()
    assert "alert" in markdown and "javascript" in markdown
    assert not re.search(r"(?<!\\)<", markdown) and not re.search(r"(?<!\\)\]\(javascript", markdown)
    for table in (part for part in markdown.split("\n\n") if part.startswith("| ")):
        cells = {len(line.replace("\\|", "").split("|")) for line in table.strip().splitlines()}
        assert len(cells) == 1


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd"])
def test_address_that_is_no_web_page_is_not_linked(world: World, url: str) -> None:
    found = why(world, world.store, PROJECT, links=Links(commit=lambda *_: url))
    assert url not in to_html(found.page) and url not in found.to_markdown()
