"""What a child process of the tests has imported when it starts: all that is heavy, none of it in use yet."""

import gc

import dagster  # noqa: F401
import lightning  # noqa: F401
import mlflow  # noqa: F401
import networkx  # noqa: F401
import onnxruntime  # noqa: F401
import sqlalchemy  # noqa: F401
from torch.export import _trace  # noqa: F401
from torch.onnx._internal.exporter import _registration

from tests import onnx_operations
from visionops import __main__  # noqa: F401
from visionops_assets.evaluation import judging  # noqa: F401
from visionops_assets.promotion import promote  # noqa: F401
from visionops_assets.training import challenge  # noqa: F401

onnx_operations.keep()
_registration.ONNXRegistry.from_torchlib()

# A child need not go through what it only inherits.
gc.freeze()
gc.set_threshold(20_000, 20, 20)
