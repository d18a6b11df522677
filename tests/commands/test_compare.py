"""`visionops compare`: both sides on the same images, and nothing of it left behind."""

import re
from typing import Any

import pytest
from desk import Desk

from resources.models.records import ArtifactMissing
from visionops.comparing import comparison_report
from visionops.comparing.sides import ComparisonError
from visionops_assets.pages.page import Paragraph
from visionops_assets.promotion import version_differences


def kept(desk: Desk) -> tuple[Any, list[tuple[str, int]]]:
    """All that a comparison must leave alone: tags, aliases and ledger, and every file of every run."""
    files = sorted((desk.world.root / "mlflow").rglob("*"))
    return desk.world.registry.models.get("shapes"), [
        (str(file), file.stat().st_mtime_ns) for file in files if "artifacts" in file.parts and file.is_file()
    ]


def metric(found: dict[str, Any]) -> tuple[float, float, float, float, float]:
    (accuracy,) = found["metrics"]
    return tuple(accuracy[name] for name in ("a", "b", "gain", "lower", "upper"))  # type: ignore[return-value]


@pytest.mark.slow
def test_two_models_are_compared_on_the_same_images_and_nothing_is_spent_or_stored(
    desk_of_promoted: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desk_of_promoted
    with pytest.raises(ComparisonError, match="version 1 is the only model of shapes"):
        desk.run("compare", "shapes")
    desk.world.publish("week-02", 90, seed=2)
    untrained = desk.json("compare", "shapes", "main")
    assert (untrained["a"]["run_id"], untrained["metrics"]) == (None, [])
    assert untrained["data"]["summary"][0].startswith("week-02: 90 images added")
    assert "No model was trained on main" in desk.run("compare", "main", "champion")
    assert desk.world.tick().outcome == "promoted"
    before = kept(desk)

    usual = desk.json("compare")
    assert (usual["a"]["version"], usual["b"]["version"]) == (2, 1)
    assert "newest challenger is champion" in usual["note"]
    assert usual["on"]["answers"] == "stored"
    assert usual["on"]["dataset_version"] == usual["a"]["dataset_version"] == desk.world.partitions()[-1]
    assert usual["verdict"]["outcome"] == "PASS" and usual["verdict"]["kind"] == "decision"
    assert usual["data"]["summary"][0].startswith("week-02: 90 images added")
    assert usual["inputs"] is not None and not [each for each in usual["inputs"] if each["kind"] == "recipe"]
    assert {"class=bar", "batch=week-02"} <= {row["slice"] for row in usual["slices"]}

    a, b, gain, lower, upper = metric(usual)
    back = desk.json("compare", "shapes", "1", "champion")
    assert back["on"]["answers"] == "stored", "whoever stood in the challenger's place"
    assert metric(back)[:3] == (b, a, -gain)
    assert metric(back)[3:] == pytest.approx((-upper, -lower), abs=0.02)

    first = desk.world.partitions()[0]
    scored = desk.json("compare", usual["a"]["run_id"], "v1", "--on", first)
    assert (scored["on"]["answers"], scored["on"]["dataset_version"]) == ("scored", first)
    assert scored["on"]["images"] < usual["on"]["images"] and scored["verdict"] is None
    again = desk.json("compare", "2", "1", "--on", "main")
    assert (again["on"]["answers"], metric(again)) == ("stored", metric(usual))
    assert desk.json("compare", "2", "champion")["same_model"]

    (accuracy,) = usual["metrics"]
    assert (len(usual["won"]), len(usual["lost"])) == (accuracy["wins"], accuracy["losses"])
    assert [each["image"] for each in back["lost"]] == [each["image"] for each in usual["won"]]
    assert len(scored["won"]) == scored["metrics"][0]["wins"]
    page = desk.world.root / "pages" / "compared.html"
    assert desk.run("compare", "2", "1", "--json", "--html", str(page)) == desk.run(
        "compare", "2", "1", "--json"
    )
    shown = page.read_text()
    assert shown.count("data:image/") == min(24, len(usual["won"])) + min(24, len(usual["lost"]))
    assert f"Won by A against B: {len(usual['won'])} images" in shown
    assert not re.search(r"<(script|link|iframe)|src=\"http", shown)
    assert [file.name for file in page.parent.iterdir()] == ["compared.html"]
    why = desk.run("why", "shapes", "--html", str(page.with_name("why.html")))
    assert f"written: {page.with_name('why.html')}" in why
    assert "Won by this model against version 1" in why
    assert page.with_name("why.html").read_text().count("data:image/") == shown.count("data:image/")
    first_one = desk.run("why", "shapes", "--model-version", "1")
    assert "Answered wrongly by this model" in first_one or "Won by" in first_one
    with pytest.raises(ValueError, match=r"the page is HTML; name it x\.html"):
        desk.run("compare", "2", "1", "--html", "x.pdf")

    text = desk.run("compare", "shapes", "--markdown")
    assert text.startswith("# shapes: champion, version 2 against version 1\n")
    assert "decides nothing" in text and "| accuracy |" in text
    assert kept(desk) == before
    with monkeypatch.context() as turned:
        # These models answer alike: as if there were images to show.
        for module in (comparison_report, version_differences):
            turned.setattr(module, "list_turned", lambda found, names, how: [Paragraph(how)])
        for words, shows in (
            (("compare", "shapes"), "compare shapes champion 1"),
            (("compare", "2", "1", "--on", "main"), "compare shapes 2 1 --on main"),
            (("why", "shapes"), "why shapes"),
            (("why", "shapes", "--model-version", "1"), "why shapes --model-version 1"),
        ):
            told = " ".join(desk.run(*words).split())
            assert f"`visionops {shows} --html FILE` shows them" in told, words

    for model in (desk.world.root / "mlflow").rglob("model.onnx"):
        model.unlink()
    assert metric(desk.json("compare")) == metric(usual), "stored answers need no model"
    with pytest.raises(ArtifactMissing, match=r"has no artifact model/model.onnx"):
        desk.run("compare", "shapes", "2", "1", "--on", first)


def test_a_run_without_a_model_or_of_another_project_is_refused(desk_of_promoted: Desk) -> None:
    runs = desk_of_promoted.world.registry.runs
    started, foreign = runs.start("shapes", "half way", {}), runs.start("others", "theirs", {})
    with pytest.raises(ComparisonError, match=r"half way, running\) holds no model"):
        desk_of_promoted.run("compare", "shapes", started.id)
    with pytest.raises(ComparisonError, match="belongs to others, not to shapes"):
        desk_of_promoted.run("compare", "shapes", foreign.id)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("99",), "version 99 of shapes does not exist.*shapes has version 1"),
        (("0" * 32,), "run 0000.*does not exist.*named by its id"),
        (("no-such-branch",), "no-such-branch is no version, run, dataset version.*shapes has version 1"),
        (("1", "2", "3"), "two things are compared, not 3"),
    ],
)
def test_what_is_not_there_is_said_in_one_message(
    desk_of_promoted: Desk, words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ComparisonError, match=said):
        desk_of_promoted.run("compare", "shapes", *words)
