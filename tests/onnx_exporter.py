"""torch's ONNX exporter without what it does anew for each export, though nothing but weights differs.

It makes its table of operations, and traces the model twice: nearly all that a small export takes. Here a process
makes the table once, and traces an architecture of the product's own once; translating the trace, and folding the
weights into it, is done each time. `training/test_export.py` holds that the files are those of an untouched exporter.
"""

import functools
import sys
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

_EXPORTER = "torch.onnx._internal.exporter"
# The architectures of tests, where two may share a name, are traced each time.
_OWN = "visionops_assets."
_SIMPLE = (bool, int, float, str, tuple, type(None))


def keep() -> bool:
    """Do so in this process, and in those forked from it, if the exporter is imported: False where it is not."""
    core = sys.modules.get(f"{_EXPORTER}._core")
    if core is None:
        return False
    if not hasattr(core._prepare_exported_program_for_export, "__wrapped__"):
        _keep_operations(sys.modules[f"{_EXPORTER}._registration"])
        _keep_traces(core)
    return True


def _keep_operations(registration: Any) -> None:
    registration.ONNXRegistry.from_torchlib = staticmethod(
        functools.cache(registration.ONNXRegistry.from_torchlib)
    )


def _keep_traces(core: Any) -> None:
    strategy = core._capture_strategies.TorchExportNonStrictStrategy
    capture: Callable[..., ExportedProgram] = strategy._capture
    prepare: Callable[..., ExportedProgram] = core._prepare_exported_program_for_export
    captured: dict[Hashable, ExportedProgram] = {}
    prepared: dict[ExportedProgram, ExportedProgram] = {}

    @functools.wraps(capture)
    def kept_capture(
        self: object, model: "nn.Module", images: Any, others: object, shapes: object
    ) -> "ExportedProgram":
        if not type(model).__module__.startswith(_OWN) or not type(model.model).__module__.startswith(_OWN):
            return capture(self, model, images, others, shapes)
        key = (_architecture(model), images[0].shape, str(shapes))
        if key not in captured:
            captured[key] = capture(self, model, images, others, shapes)
        captured[key]._state_dict = model.state_dict(keep_vars=True)
        return captured[key]

    @functools.wraps(prepare)
    def kept_prepare(program: "ExportedProgram", *, registry: object) -> "ExportedProgram":
        if program not in captured.values():
            return prepare(program, registry=registry)
        if program not in prepared:
            prepared[program] = prepare(program, registry=registry)
        prepared[program]._state_dict = program.state_dict
        return prepared[program]

    strategy._capture = kept_capture
    core._prepare_exported_program_for_export = kept_prepare


def _architecture(model: "nn.Module") -> Hashable:
    """All that a model is but its tensors."""
    return tuple(
        (
            name,
            type(module),
            str(sorted((key, value) for key, value in vars(module).items() if isinstance(value, _SIMPLE))),
            tuple((key, value.shape, value.dtype) for key, value in module.state_dict().items()),
        )
        for name, module in model.named_modules()
    )
