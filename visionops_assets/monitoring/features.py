"""The features of production: what drift looks at, by image and time. The table a feature store serves."""

import pandas as pd
import pyarrow as pa

from visionops_assets.monitoring.image_statistics import STATISTICS
from visionops_assets.monitoring.inference_log import log_schema
from visionops_assets.monitoring.signals import numeric_signals, signals

KEYS = ("image_sha256", "timestamp", "device", "device_group", "model_sha256")


def features_of(log: pd.DataFrame, task: str) -> pd.DataFrame:
    """One row a row of the log: its keys, image statistics, embedding, what the model said, and the watched numbers.

    In detection the boxes stay beside the numbers made of them. Infinite numbers are missing.
    """
    answers = ["prediction", "confidence", *(["boxes"] if task == "detection" else [])]
    kept = log[[*KEYS, *answers, "embedding"]].reset_index(drop=True)
    watched = signals(log, task)
    own = [name for name in numeric_signals(task) if name not in kept.columns]
    return pd.concat([kept, watched[own]], axis=1)


def stored_features(features: pd.DataFrame, task: str) -> pa.Table:
    """The same with the types of the log, whatever is null in it."""
    log = log_schema(task)
    fields = [
        log.field(name) if name in log.names and name not in STATISTICS else pa.field(name, pa.float64())
        for name in features.columns
    ]
    return pa.Table.from_pandas(features, schema=pa.schema(fields), preserve_index=False)


def described(features: pd.DataFrame) -> pd.DataFrame:
    """Mean, deviation and missing share of each number, one row a model, device group and number."""
    numbers = list(features.select_dtypes("number").columns)
    rows = [
        {
            "model": str(model)[:12],
            "device_group": group,
            "number": name,
            "mean": round(float(part[name].mean()), 4),
            "deviation": round(float(part[name].std(ddof=0)), 4),
            "missing": round(float(part[name].isna().mean()), 4),
        }
        for (model, group), part in features.groupby(["model_sha256", "device_group"], sort=True)
        for name in numbers
    ]
    return pd.DataFrame(rows, columns=["model", "device_group", "number", "mean", "deviation", "missing"])
