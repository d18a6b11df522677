"""Which frames are kept: a stated share, the unsure, the novel, and never more bytes than a day has."""

from datetime import date

import numpy as np
import pytest
from logged import sha256

from visionops_assets.config.production_rules import CaptureRules
from visionops_assets.monitoring.captures import REMEMBERED, Candidate, Captures, why_keep

DAY = date(2026, 6, 10)
NONE = CaptureRules(share=0, below_confidence=0, novelty=2)


def frame(
    number: int, confidence: float | None = 0.9, embedding: list[float] | None = None, size: int = 100
) -> Candidate:
    return Candidate(sha256(str(number).encode()), confidence, embedding, size)


def test_the_share_of_all_images_is_kept_and_always_the_same_ones():
    rules = CaptureRules(share=0.1, below_confidence=0)
    digests = [sha256(str(number).encode()) for number in range(5000)]
    kept = [each for each in digests if why_keep(rules, each, 0.9, None)]
    assert abs(len(kept) / len(digests) - 0.1) < 4 * (0.1 * 0.9 / len(digests)) ** 0.5
    assert kept == [each for each in digests if why_keep(rules, each, 0.99, None)]
    wider = CaptureRules(share=0.2, below_confidence=0)
    assert {each for each in digests if why_keep(wider, each, 0.9, None)} >= set(kept)


@pytest.mark.parametrize(
    ("confidence", "novelty", "why"),
    [
        (0.59, None, "unsure"),
        (0.61, None, None),
        (None, None, "unsure"),
        (0.9, 0.4, "novel"),
        (0.9, 0.2, None),
    ],
)
def test_a_frame_is_kept_by_the_rule_it_meets(
    confidence: float | None, novelty: float | None, why: str | None
):
    rules = CaptureRules(share=0, below_confidence=0.6, novelty=0.3)
    assert why_keep(rules, "f" * 64, confidence, novelty) == why


def test_without_rules_nothing_is_kept():
    captures = Captures(NONE)
    assert not any(captures.keep(frame(number), DAY) for number in range(100))


def test_a_device_keeps_no_more_than_the_bytes_of_a_day():
    captures = Captures(CaptureRules(share=1, bytes_per_day=250))
    kept = [frame(number).size for number in range(10) if captures.keep(frame(number), DAY)]
    assert sum(kept) == 200
    assert captures.keep(frame(11), date(2026, 6, 11)) == "share"


def test_what_is_unlike_everything_kept_is_novel_once():
    captures = Captures(CaptureRules(share=0, below_confidence=0.6, novelty=0.3))
    generator = np.random.default_rng(0)
    usual, strange = np.eye(8)[0], np.eye(8)[1]

    def near(direction: np.ndarray) -> list[float]:
        return (direction + generator.normal(0, 0.02, 8)).tolist()

    assert captures.keep(frame(0, confidence=0.1, embedding=near(usual)), DAY) == "unsure"
    assert captures.keep(frame(1, embedding=near(usual)), DAY) is None
    assert captures.keep(frame(2, embedding=near(strange)), DAY) == "novel"
    assert captures.keep(frame(3, embedding=near(strange)), DAY) is None


@pytest.mark.parametrize("embedding", [None, [0.0] * 4, [float("nan")] * 4])
def test_an_embedding_that_points_nowhere_is_not_novel(embedding: list[float] | None):
    captures = Captures(CaptureRules(share=0, below_confidence=0.6, novelty=0.3))
    captures.keep(frame(0, confidence=0.1, embedding=[1.0, 0.0, 0.0, 0.0]), DAY)
    assert captures.keep(frame(1, embedding=embedding), DAY) is None


def test_a_model_of_other_embeddings_comes_and_goes():
    """A promotion and its rollback: what was kept for one model is nothing to compare the other's frames with."""
    captures = Captures(CaptureRules(share=0, below_confidence=0.6, novelty=0.3))
    for length in (4, 8, 4, 8):
        usual, strange = np.eye(length)[:2].tolist()
        assert captures.keep(frame(length, confidence=0.1, embedding=usual), DAY) == "unsure"
        assert captures.keep(frame(length + 1, embedding=usual), DAY) is None
        assert captures.keep(frame(length + 2, embedding=strange), DAY) == "novel"


def test_novelty_is_measured_against_the_frames_kept_last():
    captures = Captures(CaptureRules(share=0, below_confidence=0.6, novelty=0.3))
    directions = np.eye(REMEMBERED + 1).tolist()
    captures.keep(frame(1, confidence=0.1, embedding=directions[1]), DAY)
    for number, each in enumerate(directions[2:], 2):
        assert captures.keep(frame(number, embedding=each), DAY) == "novel"
    first, last = directions[1], directions[-1]
    assert captures.keep(frame(1, embedding=first), DAY) is None, "it is still remembered"
    assert captures.keep(frame(0, embedding=directions[0]), DAY) == "novel"
    assert captures.keep(frame(2, embedding=last), DAY) is None
    assert captures.keep(frame(3, embedding=first), DAY) == "novel", "the oldest made room"
