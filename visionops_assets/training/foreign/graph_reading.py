"""A stranger's ONNX graph, read: what no runtime should be given is refused by name, with what mends it.

Run in a process that the file may end.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

from visionops_assets.training.foreign.onnx_declaration import ForeignFileRefused
from visionops_assets.training.foreign.sizes_by_values import sized_by_values

# Conventions are put around a file by operators that are the same from here on.
FIRST_OPSET = 13
_STANDARD = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_BY_CHANCE = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)
# How long these run, the values of an image may decide.
_ENDLESS = frozenset({"Loop", "Scan"})
_TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.UINT8)
_IN_ONE_FILE = "`python -c \"import onnx; onnx.save(onnx.load('model.onnx'), 'one.onnx')\"`"


@dataclass(frozen=True)
class TakenImages:
    """How a graph takes images: the name and element type of its input, and its size in pixels."""

    name: str
    element: int
    layout: Literal["NCHW", "NHWC"]
    height: int
    width: int
    channels: int


def read_graph(content: bytes) -> ModelProto:
    """The model in a file's bytes, without what a stranger's file may not have. Raises `ForeignFileRefused`."""
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # The parser's errors share no other base.
        raise ForeignFileRefused("it is no ONNX file: is it complete?") from error
    if not model.graph.node:
        raise ForeignFileRefused("it is no ONNX file that computes anything: is it complete?")
    if (outside := next(_outside(model), None)) is not None:
        raise ForeignFileRefused(
            f"its tensor {outside!r} lies outside the file: put all into one by {_IN_ONE_FILE}"
        )
    local = {(each.domain, each.name) for each in model.functions}
    for node in _nodes(model):
        if node.domain not in _STANDARD and (node.domain, node.op_type) not in local:
            raise ForeignFileRefused(
                f"its operator {node.domain}.{node.op_type} is none of ONNX's own: export it without custom or "
                "optimised operators"
            )
        if node.op_type in _BY_CHANCE or _drops_by_chance(node):
            raise ForeignFileRefused(
                f"its operator {node.op_type} draws by chance: export it for inference, so that it answers twice alike"
            )
        if node.op_type in _ENDLESS:
            raise ForeignFileRefused(
                f"its operator {node.op_type} runs as long as values say: export it without a loop, and without a "
                "suppression step of its own"
            )
    if (sized := sized_by_values(model)) is not None:
        raise ForeignFileRefused(
            f"its operator {sized.op_type} computes as much as the values of an image say: export it so that shapes "
            "alone decide"
        )
    found = opset_of(model)
    if found < FIRST_OPSET:
        raise ForeignFileRefused(f"it is of opset {found}: export it with opset {FIRST_OPSET} or newer")
    return model


def _drops_by_chance(node: NodeProto) -> bool:
    """Whether a node may drop out as it does in training: since opset 12 its third input says so."""
    return node.op_type == "Dropout" and len(node.input) > 2 and bool(node.input[2])


def opset_of(model: ModelProto) -> int:
    """The version of ONNX's own operators; 0 where it names none."""
    return next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)


def taken_images(model: ModelProto, channels: int) -> TakenImages:
    """How a graph takes images of so many channels. Raises `ForeignFileRefused`."""
    weights = {each.name for each in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in weights]
    if len(inputs) != 1:
        named = ", ".join(each.name for each in inputs) or "none"
        raise ForeignFileRefused(f"it has {len(inputs)} inputs ({named}): export it with the images alone")
    (given,) = inputs
    _refuse_constant_batch(given)
    element, sides = given.type.tensor_type.elem_type, given.type.tensor_type.shape.dim
    if element not in _TYPES or len(sides) != 4:
        raise ForeignFileRefused(
            f"its input {given.name} should be images, float or uint8 of four dimensions; export it so"
        )
    free = [each.dim_param or "?" for each in sides[1:] if not each.dim_value]
    if free:
        raise ForeignFileRefused(
            f"its input {given.name} leaves {', '.join(free)} open beside the number of images: export it for one "
            "height and width, or fix them by `python -m onnxruntime.tools.make_dynamic_shape_fixed`"
        )
    _, second, third, fourth = (each.dim_value for each in sides)
    if second == channels:
        return TakenImages(given.name, element, "NCHW", third, fourth, channels)
    if fourth == channels:
        return TakenImages(given.name, element, "NHWC", second, third, channels)
    raise ForeignFileRefused(
        f"its input {given.name} is of {second} × {third} × {fourth}, which has no side of {channels} for the "
        "declared --channel-order"
    )


def refuse_unusable_size(taken: TakenImages) -> None:
    """Raise `ForeignFileRefused` for images of a size that nothing here decodes to."""
    if not (4 <= taken.height <= 4096 and 4 <= taken.width <= 4096):
        raise ForeignFileRefused(
            f"it takes images of {taken.height} × {taken.width}: sides of 4 to 4096 are taken"
        )


def _refuse_constant_batch(given: ValueInfoProto) -> None:
    sides = given.type.tensor_type.shape.dim
    if sides and sides[0].HasField("dim_value"):
        raise ForeignFileRefused(
            f"its input {given.name} takes {sides[0].dim_value} image(s) together and no other number: export it with "
            "a dynamic first dimension, in PyTorch `dynamic_shapes=({0: 'N'},)`"
        )


def _nodes(model: ModelProto) -> Iterator[NodeProto]:
    return (each for each in _parts(model) if isinstance(each, NodeProto))


def _outside(model: ModelProto) -> Iterator[str]:
    """The names of tensors whose data lie in another file."""
    for each in _parts(model):
        if isinstance(each, TensorProto) and (
            each.data_location == TensorProto.EXTERNAL or each.external_data
        ):
            yield each.name


def _parts(model: ModelProto) -> Iterator[Any]:
    """Every message of a file, whatever it lies in: branches without nodes, functions, defaults of their attributes.

    What a runtime finds must be seen here.
    """
    waiting: list[Any] = [model]
    while waiting:
        part = waiting.pop()
        yield part
        if isinstance(part, TensorProto):
            # Its numbers may be most of the file.
            continue
        for _, value in part.ListFields():
            if _is_message(value):
                waiting.append(value)
            elif not isinstance(value, str | bytes | int | float):
                waiting += [each for each in value if _is_message(each)]


def _is_message(value: object) -> bool:
    return hasattr(value, "ListFields")
