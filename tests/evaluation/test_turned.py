"""Which images one of two models answers better."""

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from visionops.comparing.answers import exchanged
from visionops_assets.evaluation.turned import WonAndLost, won_and_lost
from visionops_assets.pages.html_page import to_html
from visionops_assets.pages.page import Page
from visionops_assets.promotion.version_differences import (
    IMAGES_PICTURED,
    ModelNames,
    list_turned,
    picture_turned,
)

CLASSES = ("a", "b", "c")
NAMES = ModelNames("A", "B")


def classified(count: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "path": [f"batches/x/images/{number}.png" for number in range(count)],
            "batch": "x",
            "label": random.choice(CLASSES, count),
        }
    )
    for model in ("champion", "challenger"):
        table[f"{model}_prediction"] = random.choice(np.array([*CLASSES, None], object), count)
        table[f"{model}_confidence"] = random.random(count)
        table[f"{model}_probabilities"] = [[1 / 3] * 3] * count
    return table


def box(label: str, x: float, score: float | None = None) -> dict[str, Any]:
    said = {} if score is None else {"score": score}
    return {"x": x, "y": 0.0, "w": 10.0, "h": 10.0, "label": label, **said}


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def paths(images: Any) -> list[str]:
    return [each.path for each in images]


@pytest.mark.parametrize("seed", range(5))
def test_an_image_is_won_where_only_the_challenger_is_right(seed: int) -> None:
    table = classified(60, seed)
    right = {
        model: (table[f"{model}_prediction"] == table["label"]).to_numpy()
        for model in ("challenger", "champion")
    }
    found = won_and_lost(table)
    assert sorted(paths(found.won)) == sorted(table["path"][right["challenger"] & ~right["champion"]])
    assert sorted(paths(found.lost)) == sorted(table["path"][~right["challenger"] & right["champion"]])
    back = won_and_lost(exchanged(table))
    assert (paths(back.won), paths(back.lost)) == (paths(found.lost), paths(found.won))
    sure = table.set_index("path")["champion_confidence"]
    assert [sure[path] for path in paths(found.won)] == sorted(sure[paths(found.won)], reverse=True)


def test_without_a_champion_the_wrong_answers_are_listed() -> None:
    table = classified(30, 1).drop(
        columns=[f"champion_{name}" for name in ("prediction", "confidence", "probabilities")]
    )
    found = won_and_lost(table)
    wrong = table["path"][table["challenger_prediction"] != table["label"]]
    assert sorted(paths(found.wrong)) == sorted(wrong) and not found.won and not found.lost
    words = Page("x", tuple(list_turned(found, NAMES, "how"))).to_text()
    assert f"Answered wrongly by A: {len(wrong)} images" in words and "how" in words
    faultless = won_and_lost(table.assign(challenger_prediction=table["label"]))
    words = Page("x", tuple(list_turned(faultless, NAMES, "shows them"))).to_text()
    assert "Answered wrongly by A: 0 images" in words and "Won by" not in words
    assert "shows them" not in words, "there is none to show"
    one = won_and_lost(table[table["path"] == wrong.iloc[0]])
    assert (
        "Answered wrongly by A: 1 image\n" in Page("x", tuple(list_turned(one, NAMES, ""))).to_text() + "\n"
    )


def test_a_detector_wins_an_image_with_fewer_errors() -> None:
    truth = [box("a", 0), box("b", 50)]
    answers = {
        "both": [box("a", 0, 0.9), box("b", 50, 0.8)],
        "one": [box("a", 0, 0.9)],
        "one and two too many": [box("a", 0, 0.9), box("b", 90, 0.9), box("a", 0, 0.5)],
        "unsure": [box("a", 0, 0.2), box("b", 50, 0.2)],
        "other class": [box("b", 0, 0.9), box("b", 50, 0.9)],
        "nothing": [],
    }
    errors = {"both": 0, "one": 1, "one and two too many": 3, "unsure": 2, "other class": 2, "nothing": 2}
    pairs = [(one, other) for one in answers for other in answers]
    table = pd.DataFrame(
        {
            "path": [f"{one} / {other}" for one, other in pairs],
            "batch": "x",
            "boxes": [truth] * len(pairs),
            "challenger_boxes": [answers[one] for one, _ in pairs],
            "champion_boxes": [answers[other] for _, other in pairs],
        }
    )
    found = won_and_lost(table)
    assert set(paths(found.won)) == {
        f"{one} / {other}" for one, other in pairs if errors[one] < errors[other]
    }
    assert set(paths(found.lost)) == {
        f"{one} / {other}" for one, other in pairs if errors[one] > errors[other]
    }
    assert found.won[0].path == "both / one and two too many", "the clearest first"
    assert found.won[0].champion is not None
    assert found.won[0].champion.words == "finds 1 of 2, 2 too many"
    bold = won_and_lost(table, challenger_from=0.1)
    assert "unsure / one" in paths(bold.won), "each model's boxes count from its own score"
    assert "unsure / one" in paths(found.lost)


def test_images_without_any_box_are_alike() -> None:
    table = pd.DataFrame(
        {"path": ["p"], "batch": ["x"], "boxes": [[]], "challenger_boxes": [[]], "champion_boxes": [[]]}
    )
    assert won_and_lost(table) == WonAndLost([], [], (), (0.3, 0.3))


def test_a_page_holds_its_pictures_and_shows_no_more_than_it_says() -> None:
    table = classified(200, 2)
    table["label"] = table["label"].map(lambda label: f"<i>{label}")
    table["challenger_prediction"] = table["label"]
    found = won_and_lost(table)
    assert len(found.won) == 200

    def read(asked: list[str]) -> Any:
        return [(path, png(number) if number else OSError("gone")) for number, path in enumerate(asked)]

    page = to_html(Page("A & B", tuple(picture_turned(found, NAMES, read))))
    assert page.count("data:image/") == IMAGES_PICTURED - 1 and page.count("no picture") == 1
    assert "200 images, the 24 clearest of them here" in page
    assert "<i>" not in page and "&lt;i&gt;" in page
    assert "http" not in page
