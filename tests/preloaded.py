"""What a child process of the tests has imported when it starts: all that is heavy, none of it in use yet."""

import gc
import tempfile
from pathlib import Path

import imagecodecs
import jinja2  # noqa: F401
import lakefs  # noqa: F401
import lightning  # noqa: F401
import mlflow.store.model_registry.sqlalchemy_workspace_store
import mlflow.store.tracking.sqlalchemy_workspace_store  # noqa: F401
import networkx  # noqa: F401
import omegaconf  # noqa: F401
import onnxruntime  # noqa: F401
import pyarrow.dataset  # noqa: F401
import s3fs  # noqa: F401
import sqlalchemy.orm
import sympy.tensor.tensor  # noqa: F401
import upath.implementations.local  # noqa: F401
from dagster._core.execution import execute_in_process  # noqa: F401
from dagster._core.storage import local_compute_log_manager, root  # noqa: F401
from dagster._core.storage.event_log import sqlite as event_log  # noqa: F401
from dagster._core.storage.runs import sqlite as runs  # noqa: F401
from dagster._core.storage.schedules import sqlite as schedules  # noqa: F401
from dagster._daemon import controller  # noqa: F401
from PIL import Image
from torch.export import _trace  # noqa: F401
from torch.onnx._internal.exporter import _compat  # noqa: F401
from tqdm import tqdm

from lakefs_local import discovery  # noqa: F401
from sensors import (
    announcements,  # noqa: F401
    drops,  # noqa: F401
    new_commits,  # noqa: F401
    production_log,  # noqa: F401
)
from tests import compared_pairs, migrations, onnx_exporter
from tests.world import CLASSES, shapes_project
from visionops import tick  # noqa: F401
from visionops.cli import command_line  # noqa: F401
from visionops_assets import graph  # noqa: F401
from visionops_assets.dataset import batch_publishing  # noqa: F401
from visionops_assets.pages import page  # noqa: F401
from visionops_assets.promotion import (
    model_card,  # noqa: F401
    promote,  # noqa: F401
)
from visionops_assets.shells import outputs  # noqa: F401
from visionops_assets.training import (
    challenge,  # noqa: F401
    model_files,
    provenance,
)
from visionops_assets.training.classification import ShippedClassifier
from visionops_assets.training.determinism import deterministic_session
from visionops_assets.training.models import SmallConvNet


def _threads() -> set[str]:
    return {thread.name for thread in Path("/proc/self/task").iterdir()}


def _trace_once() -> None:
    """Have the model of `tests/world.py` traced: without a thread, since none would be there in a child."""
    before, spec, interval = _threads(), shapes_project().recipe.input, tqdm.monitor_interval
    # Its bars are watched by a thread.
    tqdm.monitor_interval = 0
    with tempfile.TemporaryDirectory() as folder, deterministic_session(seed=0, threads=1):
        model = ShippedClassifier(SmallConvNet(len(CLASSES), spec), CLASSES, spec)
        model_files.export_onnx(model, Path(folder) / "model.onnx")
    tqdm.monitor_interval = interval
    assert _threads() == before


migrations.keep()
compared_pairs.keep()
# A version of torch may import the exporter later than the one before it.
assert onnx_exporter.keep(), "torch's exporter is not imported: each child would make its table anew"
_trace_once()
sqlalchemy.orm.configure_mappers()
provenance.installed_packages()
imagecodecs.png_check(b"")
Image.init()

# A child need not go through what it only inherits.
gc.freeze()
gc.set_threshold(20_000, 20, 20)
