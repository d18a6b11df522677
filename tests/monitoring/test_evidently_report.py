"""Evidently's page says what our own numbers say."""

import production as simulated
import pytest
from production import blur_and_darkness

from visionops_assets.monitoring.drift import DriftReference
from visionops_assets.monitoring.drift_rules import DriftRules
from visionops_assets.monitoring.evidently_report import report_distances, report_page


def test_evidently_computes_the_same_distances_and_draws_a_page():
    world = simulated.parts()
    reference = DriftReference(world.reference(), world.task, DriftRules())
    day = world.day(200, 0, shift=blur_and_darkness)
    found = reference.compare(day)
    distances = report_distances(reference, day, found)
    ours = {column.column: column.distance for column in found.columns if column.kind != "embedding"}
    constant = {name for name, distance in ours.items() if distance == 0}
    assert constant == {"saturation", "width", "height"}
    ours = {name: distance for name, distance in ours.items() if name not in constant}
    assert distances == pytest.approx(ours, abs=1e-9)
    page = report_page(reference, day, found)
    assert all(name in page for name in ours)
