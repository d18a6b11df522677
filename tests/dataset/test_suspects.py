import pandas as pd
import pytest

from visionops_assets.dataset.findings import has_errors
from visionops_assets.dataset.suspects import check_labels_plausible


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
    found = check_labels_plausible(batch, predicted(batch, {"b": 0.93, "f": 0.99, "g": 0.6}))
    assert found["image"].tolist() == ["f", "b"]
    assert found["what"][1] == "is labelled 3, and the champion says 8 (confidence 0.93)"
    assert not has_errors(found)


def test_too_much_disagreement_refuses_the_batch_where_that_is_declared(batch):
    predictions = predicted(batch, {"b": 0.93, "f": 0.99, "g": 0.95})
    found = check_labels_plausible(batch, predictions, max_disagreement=0.2)
    assert has_errors(found) and len(found) == 4
    assert found["what"][0] == "the champion confidently disagrees with 37.5% of its labels"
    assert not has_errors(check_labels_plausible(batch, predictions, max_disagreement=0.4))


def test_images_without_a_prediction_say_nothing(batch):
    assert check_labels_plausible(batch, predicted(batch, {}).iloc[:0], max_disagreement=0.0).empty
    assert check_labels_plausible(batch, predicted(batch, {}), max_disagreement=0.0).empty
