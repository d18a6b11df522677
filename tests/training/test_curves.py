"""Learning curves are a small picture, whatever there is to show."""

import io

import pytest
from PIL import Image

from visionops_assets.training.provenance import EpochReport
from visionops_assets.training.recording import learning_curves


def report(epoch: int, validated: bool = True) -> EpochReport:
    loss, accuracy = (1.2 / epoch, 1 - 0.5 / epoch) if validated else (None, None)
    return EpochReport(epoch, 300, 1 / epoch, loss, accuracy, learning_rate=0.1, seconds=1.0)


@pytest.mark.parametrize(("epochs", "validated"), [(1, True), (20, True), (20, False), (300, True)])
def test_curves_are_a_png_below_50_kb(epochs: int, validated: bool) -> None:
    picture = learning_curves([report(epoch + 1, validated) for epoch in range(epochs)], title="shapes")
    assert len(picture) < 50_000
    with Image.open(io.BytesIO(picture)) as image:
        assert image.format == "PNG" and image.width > 300
