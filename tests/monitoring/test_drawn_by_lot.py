"""Images that were asked for because the model is unsure say nothing of how well it does; those drawn by lot do."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import production as simulated
from hypothesis import given
from hypothesis import strategies as st
from logged import sha256

from edge.formats import place_of_digest
from visionops_assets.monitoring.captures import label_sample
from visionops_assets.monitoring.labels_wanted import BY_LOT, labels_wanted
from visionops_assets.monitoring.performance import performance_of_day


def test_what_was_asked_for_and_labelled_gives_the_performance_of_the_whole_day(
    count: Callable[[int, int], int],
):
    world = simulated.digits()
    errors, of_all = [], []
    for seed in range(count(8, 40)):
        day = world.day(250, seed)
        truth = (day["prediction"] == day["label"]).mean()
        digests = [sha256(f"{seed} {number}".encode()) for number in range(len(day))]
        day = day.assign(image_sha256=digests, capture=digests, truth=day["label"], label=None)
        wanted = labels_wanted(day, world.reference(), "classification", 120, share=1.0)
        assert (wanted["why"] == BY_LOT).sum() == 60
        day["label"] = day["truth"].where(day["image_sha256"].isin(wanted["image_sha256"]), None)
        found = performance_of_day(day, "classification", tuple("0123456789"), None, 50, share=1.0)
        assert found.labelled == 120
        assert found.realised is not None and 60 <= found.realised.rows < 80
        errors.append(found.realised.value - truth)
        labelled = day[day["label"].notna()]
        of_all.append((labelled["prediction"] == labelled["label"]).mean() - truth)
    assert abs(np.mean(errors)) < 0.02
    assert np.mean(of_all) < -0.02, "all that was labelled would make the model look worse"


ROW = st.tuples(st.booleans(), st.booleans())


@given(st.lists(ROW, max_size=40), st.floats(0, 1), st.integers(0, 99))
def test_the_captures_that_count_are_the_first_of_those_drawn(rows, share, seed):
    digests = [sha256(f"{seed} {number}".encode()) for number in range(len(rows))]
    day = pd.DataFrame(
        {
            "image_sha256": digests,
            "capture": ["there" if captured else None for captured, _ in rows],
            "label": ["7" if labelled else None for _, labelled in rows],
        }
    )
    found = label_sample(day, share)
    assert found["label"].notna().all() and found.index.is_monotonic_increasing
    if day["label"].notna().all():
        assert len(found) == len(day)
        return
    inside = set(found["image_sha256"])
    drawn = sorted(
        d for d, (captured, _) in zip(digests, rows, strict=True) if captured and place_of_digest(d) < share
    )
    labelled = dict(zip(digests, day["label"].notna(), strict=True))
    first = next((number for number, digest in enumerate(drawn) if not labelled[digest]), len(drawn))
    uncaptured = {d for d, (captured, known) in zip(digests, rows, strict=True) if known and not captured}
    assert inside == set(drawn[:first]) | uncaptured
