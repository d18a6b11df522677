"""The agent of VisionOps on a device: it always has a working model, and takes a new one only as signed and tried.

A distribution of its own (`pip install ./edge`): it imports nothing of the rest.
"""

__all__ = [
    "__version__",
    "agent",
    "answering",
    "blocks",
    "device",
    "engines",
    "files",
    "formats",
    "images",
    "kept",
    "machine",
    "onnx_model",
    "outbox",
    "reports",
    "runner",
    "selftest",
    "settings",
    "sources",
]

__version__ = "0.1.0"


class EdgeError(Exception):
    """Base of the errors of this distribution, which has no part in the family of the product, `VisionOpsError`: a
    device does not have it. The message is one line that names the object and the fix."""
