"""The form of what ships, put around a stranger's graph: decoded images in, the answers of our own files out, by
operators that are the same from opset 13 on.

Boxes are suppressed as `catalogue/suppression.py` does: the best of all, of which those fall to a score of 0 that
overlap a better one of their class, which is itself kept.
"""

import json
from collections.abc import Callable, Iterable

import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto

from visionops_assets.training.foreign.graph_reading import TakenImages, opset_of
from visionops_assets.training.foreign.onnx_declaration import Declaration, ForeignFileRefused

FORMAT = "1"
_DETECTIONS = 100
_OVERLAP = 0.5
_ROUNDS = 16
_THEIRS = "theirs/"
_LAST = 2**31 - 1


def wrapped(model: ModelProto, taken: TakenImages, said: Declaration, shape: tuple[int, ...]) -> ModelProto:
    """A graph of a declared convention in the form of what ships. `shape` is that of its output for two images.

    Raises `ForeignFileRefused` where the output is not what the convention says.
    """
    theirs = ModelProto()
    theirs.CopyFrom(model)
    del theirs.metadata_props[:]
    theirs.doc_string = ""
    for each in theirs.opset_import:
        if each.domain == "ai.onnx":
            each.domain = ""
    (output,) = theirs.graph.output
    pixels = (taken.height, taken.width, taken.channels)
    sides = (taken.channels, *pixels[:2]) if taken.layout == "NCHW" else pixels
    prepared = f"{_type(taken.element, sides)} prepared"
    before = _parsed(
        theirs, "before", f"{_type(TensorProto.UINT8, pixels)} images", prepared, _before(taken, said)
    )
    outputs, after = _ENDINGS[said.convention](said, shape)
    raw = f"{_type(output.type.tensor_type.elem_type, shape[1:])} raw"
    behind = _parsed(theirs, "after", raw, outputs, after)
    _state_shape(output, shape[1:])
    whole = onnx.compose.merge_models(before, theirs, io_map=[("prepared", taken.name)], prefix2=_THEIRS)
    whole = onnx.compose.merge_models(whole, behind, io_map=[(f"{_THEIRS}{output.name}", "raw")])
    whole.ClearField("producer_name")
    whole.ClearField("producer_version")
    _describe(whole, taken, said)
    return whole


def _describe(model: ModelProto, taken: TakenImages, said: Declaration) -> None:
    spec = {
        "height": taken.height,
        "width": taken.width,
        "channels": taken.channels,
        "resize": said.resize,
    }
    for key, value in (
        ("visionops.classes", json.dumps(list(said.classes), ensure_ascii=False)),
        ("visionops.format", FORMAT),
        ("visionops.input", json.dumps(spec)),
        ("visionops.task", said.task),
    ):
        model.metadata_props.add(key=key, value=value)


def _parsed(theirs: ModelProto, name: str, given: str, told: str, lines: list[str]) -> ModelProto:
    """A part as a model of the same operators as theirs."""
    opset, version = opset_of(theirs), theirs.ir_version
    text = f'<ir_version: {version}, opset_import: ["" : {opset}]>\n{name} ({given}) => ({told}) {{\n'
    return onnx.parser.parse_model(text + "\n".join(lines) + "\n}")


def _type(element: int, sides: Iterable[int]) -> str:
    """Of a tensor of any number of images."""
    return f"{TensorProto.DataType.Name(element).lower()}[{', '.join(['N', *map(str, sides)])}]"


def _state_shape(output: ValueInfoProto, sides: Iterable[int]) -> None:
    shape = output.type.tensor_type.shape
    shape.ClearField("dim")
    shape.dim.add(dim_param="N")
    for side in sides:
        shape.dim.add(dim_value=side)


def _floats(values: list[float]) -> str:
    return f"Constant<value_floats=[{', '.join(f'{value:.9f}' for value in values)}]>()"


def _before(taken: TakenImages, said: Declaration) -> list[str]:
    """From decoded images to what the file takes."""
    lines, pixels = [], "images"
    if said.channel_order == "bgr":
        lines += ["order = Constant<value_ints=[2, 1, 0]>()", "turned = Gather<axis=3>(images, order)"]
        pixels = "turned"
    assert said.scale is not None
    lines += [
        f"pixels = Cast<to=1>({pixels})",
        f"scale = {_floats([said.scale])}",
        f"mean = {_floats(said.of_channels(said.mean))}",
        f"std = {_floats(said.of_channels(said.std))}",
        "scaled = Div(pixels, scale)",
        "centred = Sub(scaled, mean)",
        "normal = Div(centred, std)",
    ]
    ordered = "normal"
    if taken.layout == "NCHW":
        lines.append("ordered = Transpose<perm=[0, 3, 1, 2]>(normal)")
        ordered = "ordered"
    return [*lines, f"prepared = Cast<to={taken.element}>({ordered})"]


def _logits(said: Declaration, shape: tuple[int, ...]) -> tuple[str, list[str]]:
    if len(shape) != 2 or shape[1] != len(said.classes):
        raise ForeignFileRefused(
            f"convention logits takes one output [N, {len(said.classes)}], a number for each class of the project; it "
            f"gives {_shown(shape)}"
        )
    return f"float[N, {shape[1]}] probabilities, float[N, {shape[1]}] embedding", [
        "embedding = Cast<to=1>(raw)",
        "probabilities = Softmax<axis=1>(embedding)",
    ]


def _yolo(said: Declaration, shape: tuple[int, ...]) -> tuple[str, list[str]]:
    rows, transposed = _rows(said, shape, 4 + len(said.classes), "4 + classes")
    return _boxes(said, rows, [*transposed, *_CENTRES, "sure = Slice(rows, i4, last, axis)"])


def _yolo_obj(said: Declaration, shape: tuple[int, ...]) -> tuple[str, list[str]]:
    rows, transposed = _rows(said, shape, 5 + len(said.classes), "5 + classes")
    scores = [
        "object = Slice(rows, i4, i5, axis)",
        "of_class = Slice(rows, i5, last, axis)",
        "sure = Mul(object, of_class)",
    ]
    return _boxes(said, rows, [*transposed, *_CENTRES, *scores])


def _boxes6(said: Declaration, shape: tuple[int, ...]) -> tuple[str, list[str]]:
    if len(shape) != 3 or shape[2] != 6:
        raise ForeignFileRefused(
            "convention boxes6 takes one output [N, K, 6], left, top, right, bottom, score and class; it gives "
            f"{_shown(shape)}"
        )
    found = shape[1]
    lines = [
        "rows = Cast<to=1>(raw)",
        *_NUMBERS,
        *(f"{name} = Slice(rows, i{at}, i{at + 1}, axis)" for at, name in enumerate(_SIDES)),
        "score = Slice(rows, i4, i5, axis)",
        "class = Slice(rows, i5, i6, axis)",
        *_SIZES,
        "scores = Squeeze(score, axis)",
        "number = Squeeze(class, axis)",
        "labels = Cast<to=7>(number)",
        "embedding = Identity(scores)",
    ]
    return _told(found, found), lines


_SIDES = ("left", "top", "right", "bottom")
_NUMBERS = [
    *(f"i{number} = Constant<value_ints=[{number}]>()" for number in range(7)),
    f"last = Constant<value_ints=[{_LAST}]>()",
    "axis = Constant<value_ints=[2]>()",
    "none = Constant<value_float=0.0>()",
]
# Centre, width and height to corners.
_CENTRES = [
    "centre = Slice(rows, i0, i2, axis)",
    "size = Slice(rows, i2, i4, axis)",
    "two = Constant<value_float=2.0>()",
    "half = Div(size, two)",
    "near = Sub(centre, half)",
    "far = Add(centre, half)",
    "corners = Concat<axis=2>(near, far)",
]
_SIZES = [
    "across = Sub(right, left)",
    "down = Sub(bottom, top)",
    "width = Max(across, none)",
    "height = Max(down, none)",
    "boxes = Concat<axis=2>(left, top, width, height)",
]


def _rows(said: Declaration, shape: tuple[int, ...], wide: int, words: str) -> tuple[int, list[str]]:
    """How many boxes an output has, and the lines that make rows of it: [N, A, 4 + …], whichever side comes first."""
    if len(shape) != 3 or wide not in shape[1:]:
        raise ForeignFileRefused(
            f"convention {said.convention} takes one output [N, {words}, A] or [N, A, {words}], {wide} for the "
            f"{len(said.classes)} classes of the project; it gives {_shown(shape)}"
        )
    first = shape[1] == wide
    lines = ["plain = Cast<to=1>(raw)"]
    lines.append("rows = Transpose<perm=[0, 2, 1]>(plain)" if first else "rows = Identity(plain)")
    return shape[2] if first else shape[1], [*lines, *_NUMBERS]


def _boxes(said: Declaration, rows: int, corners_and_sure: list[str]) -> tuple[str, list[str]]:
    """From `corners` [N, A, 4] and `sure` [N, A, classes] to the best boxes, each object's once."""
    classes = len(said.classes)
    most = min(_DETECTIONS, rows * classes)
    lines = [
        *corners_and_sure,
        "every = Constant<value_ints=[0, -1]>()",
        "flat = Reshape(sure, every)",
        f"most = Constant<value_ints=[{most}]>()",
        "best, places = TopK<axis=1>(flat, most)",
        f"classes = Constant<value_ints=[{classes}]>()",
        "labels = Mod(places, classes)",
        "numbers = Div(places, classes)",
        "column = Unsqueeze(numbers, axis)",
        "four = Constant<value_ints=[1, 1, 4]>()",
        "index = Expand(column, four)",
        "chosen = GatherElements<axis=1>(corners, index)",
        *(f"{name} = Slice(chosen, i{at}, i{at + 1}, axis)" for at, name in enumerate(_SIDES)),
        *(f"{name}_too = Transpose<perm=[0, 2, 1]>({name})" for name in _SIDES),
        *_SIZES,
        "least_right = Min(right, right_too)",
        "most_left = Max(left, left_too)",
        "least_bottom = Min(bottom, bottom_too)",
        "most_top = Max(top, top_too)",
        "shared_across = Sub(least_right, most_left)",
        "shared_down = Sub(least_bottom, most_top)",
        "wide = Max(shared_across, none)",
        "high = Max(shared_down, none)",
        "common = Mul(wide, high)",
        "area = Mul(width, height)",
        "area_too = Transpose<perm=[0, 2, 1]>(area)",
        "both = Add(area, area_too)",
        "union = Sub(both, common)",
        f"overlap = Constant<value_float={_OVERLAP}>()",
        "limit = Mul(union, overlap)",
        "over = Greater(common, limit)",
        "label = Unsqueeze(labels, axis)",
        "label_too = Unsqueeze(labels, i1)",
        "alike = Equal(label, label_too)",
        f"ranks = Constant<value_ints=[{', '.join(map(str, range(most)))}]>()",
        "better = Unsqueeze(ranks, i1)",
        "worse = Unsqueeze(ranks, i0)",
        "before = Less(better, worse)",
        "of_one = And(over, alike)",
        "falls = And(of_one, before)",
        "suppresses = Cast<to=1>(falls)",
        "half_one = Constant<value_float=0.5>()",
        "nothing = Mul(best, none)",
        "zeros = Unsqueeze(nothing, i1)",
        "kept0 = Less(zeros, half_one)",
        "alive0 = Cast<to=1>(kept0)",
    ]
    for each in range(_ROUNDS):
        lines += [
            f"fallen{each + 1} = MatMul(alive{each}, suppresses)",
            f"kept{each + 1} = Less(fallen{each + 1}, half_one)",
            f"alive{each + 1} = Cast<to=1>(kept{each + 1})",
        ]
    lines += [
        f"alive = Squeeze(alive{_ROUNDS}, i1)",
        "scores = Mul(best, alive)",
        # What an image is like, where the file says nothing of it: how sure it is of each class at most.
        "surest, where = TopK<axis=1>(sure, i1)",
        "embedding = Squeeze(surest, i1)",
    ]
    return _told(most, classes), lines


def _told(boxes: int, wide: int) -> str:
    return f"float[N, {boxes}, 4] boxes, float[N, {boxes}] scores, int64[N, {boxes}] labels, float[N, {wide}] embedding"


def _shown(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(['N', *map(str, shape[1:])])}]" if shape else "a single number"


_ENDINGS: dict[str, Callable[[Declaration, tuple[int, ...]], tuple[str, list[str]]]] = {
    "logits": _logits,
    "yolo": _yolo,
    "yolo_obj": _yolo_obj,
    "boxes6": _boxes6,
}
