"""The agent of VisionOps on a device: it always has a working model, and takes a new one only as signed and tried.

A distribution of its own (`pip install ./edge`): it imports nothing of the rest.
"""

__all__ = [
    "__version__",
    "files",
    "formats",
    "images",
    "machine",
    "onnx_model",
    "outbox",
    "selftest",
    "settings",
]

__version__ = "0.1.0"
