"""Dagster calls a sensor's owners a beta feature, twice a sensor and load; it does what we need, so say it never."""

import warnings
from collections.abc import Callable
from typing import Any

import dagster as dg


def owned_sensor(**options: Any) -> Callable[[Callable[..., Any]], dg.SensorDefinition]:
    """`dg.sensor` with owners, without the warning."""

    def decorate(evaluate: Callable[..., Any]) -> dg.SensorDefinition:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=dg.BetaWarning)
            return dg.sensor(**options)(evaluate)

    return decorate
