"""Rows as a device writes them, and a project whose production is young."""

import hashlib
import io
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from PIL import Image

from tests.world import CLASSES, shapes_project
from visionops_assets.config.project import Project
from visionops_assets.monitoring.spool_files import spooled_log

MODEL, FILE = "a" * 64, "b" * 64
MODELS = {MODEL: MODEL, FILE: MODEL}
NOW = datetime(2026, 6, 10, 12, tzinfo=UTC)
DAY = "2026-06-10"


def project(**production: Any) -> Project:
    """Three shapes, in production since June 2026."""
    return shapes_project(production={"since": "2026-06-01", **production})


def png(number: int) -> bytes:
    """An image that no other number gives."""
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def row(number: int, device: str = "camera-1", **changes: Any) -> dict[str, Any]:
    """One sound row of the spool; the n-th was taken n seconds before noon."""
    return {
        "timestamp": NOW - timedelta(seconds=number),
        "device": device,
        "device_group": "all",
        "model_sha256": MODEL,
        "image_sha256": sha256(f"{device} {number}".encode()),
        "prediction": CLASSES[number % 3],
        "confidence": 0.8,
        "probabilities": [0.8, 0.15, 0.05],
        **changes,
    }


def detected(number: int, **changes: Any) -> dict[str, Any]:
    """One sound row of a detector."""
    box = {"x": 1.0, "y": 2.0, "w": 3.0, "h": 4.0, "class": CLASSES[0], "score": 0.7}
    found = {**row(number), "boxes": [box], **changes}
    del found["probabilities"]
    return found


def file_of(*rows: dict[str, Any], task: str = "classification") -> bytes:
    return spooled_log(task, rows)


def label(number: int, name: str, device: str = "camera-1", day: str = DAY, hour: int = 0) -> dict[str, Any]:
    """What somebody says the n-th image of a device shows."""
    return {
        "image_sha256": sha256(f"{device} {number}".encode()),
        "day": date.fromisoformat(day),
        "label": name,
        "labelled_at": NOW + timedelta(hours=hour),
    }
