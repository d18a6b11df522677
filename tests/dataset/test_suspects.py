import pandas as pd
import pytest

from visionops_assets.common.findings import has_errors
from visionops_assets.dataset.suspect_labels import suspect_boxes, suspect_labels, suspects_table


@pytest.fixture
def batch() -> pd.DataFrame:
    return pd.DataFrame({"path": list("abcdefgh"), "label": ["3"] * 8})


def predicted(batch: pd.DataFrame, wrong: dict[str, float]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "path": batch["path"],
            "prediction": ["8" if path in wrong else "3" for path in batch["path"]],
            "confidence": [wrong.get(path, 0.99) for path in batch["path"]],
        }
    )


def test_confident_disagreements_are_listed_surest_first(batch):
    found = suspects_table(*suspect_labels(batch, predicted(batch, {"b": 0.93, "f": 0.99, "g": 0.6})), None)
    assert found["image"].tolist() == ["f", "b"]
    assert found["what"][1] == "is labelled 3, and the champion says 8 (confidence 0.93)"
    assert not has_errors(found)


def test_too_much_disagreement_refuses_the_batch_where_that_is_declared(batch):
    predictions = predicted(batch, {"b": 0.93, "f": 0.99, "g": 0.95})
    found = suspects_table(*suspect_labels(batch, predictions), 0.2)
    assert has_errors(found) and len(found) == 4
    assert found["what"][0] == "the champion confidently disagrees with 37.5% of its labels"
    assert not has_errors(suspects_table(*suspect_labels(batch, predictions), 0.4))


def test_images_without_a_prediction_say_nothing(batch):
    assert suspects_table(*suspect_labels(batch, predicted(batch, {}).iloc[:0]), 0.0).empty
    assert suspects_table(*suspect_labels(batch, predicted(batch, {})), 0.0).empty


def box(label: str, x: float, score: float | None = None) -> dict[str, object]:
    said = {} if score is None else {"score": score}
    return {"x": x, "y": 5.0, "w": 10.0, "h": 10.0, "label": label, **said}


def judged(labelled: list[dict[str, object]], said: list[dict[str, object]]) -> list[str]:
    batch = pd.DataFrame({"path": ["a"], "boxes": [labelled]})
    predictions = pd.DataFrame({"path": ["a"], "boxes": [said]})
    found = suspects_table(*suspect_boxes(batch, predictions, ("nut", "washer")), None)
    assert not has_errors(found)
    return found["what"].tolist()


def test_a_box_of_another_class_and_a_missing_one_are_listed_by_the_surest():
    said = [box("washer", 21, 0.95), box("nut", 60, 0.97), box("nut", 80, 0.5)]
    assert judged([box("nut", 20)], said) == [
        "has no label at 60, 5, and the champion sees nut there (confidence 0.97)"
    ]
    assert judged([box("nut", 20), box("nut", 60)], said) == [
        "is labelled nut at 21, 5, and the champion sees washer there (confidence 0.95)"
    ]


def test_what_the_champion_misses_and_what_it_never_learnt_are_no_disagreement():
    assert judged([box("nut", 20), box("washer", 60)], [box("nut", 22, 0.99)]) == []
    assert judged([box("bolt", 20)], [box("nut", 20, 0.99)]) == []
    assert judged([box("nut", 20), box("washer", 21)], [box("washer", 20, 0.99)]) == []
    assert judged([], []) == []


def test_too_many_images_with_doubted_boxes_refuse_a_batch_where_that_is_declared():
    batch = pd.DataFrame({"path": ["a", "b", "c"], "boxes": [[box("nut", 20)]] * 3})
    said = pd.DataFrame(
        {"path": ["a", "b", "c"], "boxes": [[box("washer", 20, 0.99)], [box("nut", 20, 0.99)], []]}
    )
    found = suspects_table(*suspect_boxes(batch, said, ("nut", "washer")), 0.3)
    assert has_errors(found) and found["image"].tolist() == ["the batch", "a"]
    assert not has_errors(suspects_table(*suspect_boxes(batch, said, ("nut", "washer")), 0.4))
