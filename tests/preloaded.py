"""What a child process of the tests has imported when it starts: all that is heavy, none of it in use yet."""

import gc

import lakefs  # noqa: F401
import lightning  # noqa: F401
import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
import networkx  # noqa: F401
import onnxruntime  # noqa: F401
import sqlalchemy  # noqa: F401
import upath  # noqa: F401
from dagster._daemon import controller  # noqa: F401
from torch.export import _trace  # noqa: F401
from torch.onnx._internal.exporter import _registration

from sensors import commits, production_log  # noqa: F401
from tests import migrations, onnx_exporter
from visionops import command_line, tick  # noqa: F401
from visionops_assets import graph, io_managers  # noqa: F401
from visionops_assets.dataset import publishing  # noqa: F401
from visionops_assets.evaluation import judging, plots  # noqa: F401
from visionops_assets.promotion import model_card, page, promote  # noqa: F401
from visionops_assets.training import challenge, export  # noqa: F401

onnx_exporter.keep()
migrations.keep()
_registration.ONNXRegistry.from_torchlib(opset_version=export.OPSET)

# A child need not go through what it only inherits.
gc.freeze()
gc.set_threshold(20_000, 20, 20)
