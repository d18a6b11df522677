"""torch's table of ONNX operations, which it makes anew for each export: half of what a small one takes."""

import functools
import sys


def keep() -> None:
    """Make it once in this process, and in those forked from it if it is made by then."""
    exporter = sys.modules.get("torch.onnx._internal.exporter._registration")
    if exporter is not None and not hasattr(exporter.ONNXRegistry.from_torchlib, "cache_info"):
        exporter.ONNXRegistry.from_torchlib = staticmethod(
            functools.cache(exporter.ONNXRegistry.from_torchlib)
        )
