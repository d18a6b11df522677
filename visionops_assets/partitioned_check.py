"""Dagster calls a partitioned check a preview, once a check and load; it does what we need, so say it never."""

import warnings
from collections.abc import Callable
from typing import Any

import dagster as dg


def partitioned_check(**options: Any) -> Callable[[Callable[..., Any]], dg.AssetChecksDefinition]:
    """`dg.asset_check` for a partitioned asset, without the warning."""

    def decorate(check: Callable[..., Any]) -> dg.AssetChecksDefinition:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=dg.PreviewWarning)
            return dg.asset_check(**options)(check)

    return decorate
