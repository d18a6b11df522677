"""The form of what ships around a stranger's graph: each convention's boxes are what its numbers say, each object's
once, and the process that tries a file is one that the file may end."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import AttributeProto, StringStringEntryProto, TensorProto, helper, numpy_helper

from visionops_assets.training.foreign.limited_trial import Tried, try_file, try_here
from visionops_assets.training.foreign.onnx_declaration import Declaration, ForeignFileRefused

CLASSES = ("bolt", "nut")
SIDE = 32


def constant_file(path: Path, answer: NDArray[np.float32], layout: str = "NCHW") -> Path:
    """A file that gives the same numbers [1, …] for every image, plus nothing of the image."""
    shape: list[str | int | None] = ["N", 3, SIDE, SIDE] if layout == "NCHW" else ["N", SIDE, SIDE, 3]
    given = numpy_helper.from_array(answer, "answer")
    nodes = [
        helper.make_node("Constant", [], ["nothing"], value_float=0.0),
        helper.make_node("Constant", [], ["axes"], value_ints=[1, 2, 3]),
        helper.make_node("ReduceSum", ["images", "axes"], ["sums"], keepdims=0),
        helper.make_node("Mul", ["sums", "nothing"], ["zeros"]),
        helper.make_node("Constant", [], ["more"], value_ints=list(range(1, answer.ndim))),
        helper.make_node("Unsqueeze", ["zeros", "more"], ["column"]),
        helper.make_node("Add", ["column", "answer"], ["told"]),
    ]
    graph = helper.make_graph(
        nodes,
        "theirs",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("told", TensorProto.FLOAT, None)],
        [given],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, path)
    return path


def declaration(convention: str, **changes: object) -> Declaration:
    said = {"channel_order": "bgr", "scale": 1, "mean": (0,), "std": (1,), "padding": "black"}
    return Declaration.model_validate(
        {"convention": convention, "task": "detection", "classes": CLASSES, **said, **changes}
    )


def tried(file: Path, said: Declaration) -> Tried:
    """Here: to start a process for each of these would cost more than what it tries."""
    told, content = try_here(file.read_bytes(), said)
    return Tried(**told, content=content)


def answers(found: Tried, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(found.content, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images}), strict=True))


def centres_and_scores() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Crowded boxes as centre, width and height [60, 4], and scores [60, 2]."""
    random = np.random.default_rng(3)
    centres = np.concatenate([random.uniform(8, 24, (60, 2)), random.uniform(4, 12, (60, 2))], axis=1)
    return centres.astype(np.float32), random.uniform(0, 1, (60, 2)).astype(np.float32)


@pytest.mark.parametrize(("convention", "turned"), [("yolo", True), ("yolo", False), ("yolo_obj", False)])
def test_boxes_are_suppressed_as_our_own_detectors_do(tmp_path: Path, convention: str, turned: bool) -> None:
    import torch

    from visionops_assets.training.catalogue.suppression import suppressed

    centres, scores = centres_and_scores()
    parts, expected = [centres, scores], scores
    if convention == "yolo_obj":
        sure = np.linspace(0.1, 1, 60, dtype=np.float32)[:, None]
        parts, expected = [centres, sure, scores], scores * sure
    rows = np.concatenate(parts, axis=1)[None]
    file = constant_file(tmp_path / "m.onnx", rows.transpose(0, 2, 1).copy() if turned else rows)
    found = answers(tried(file, declaration(convention)), np.zeros((2, SIDE, SIDE, 3), np.uint8))
    corners = np.concatenate(
        [centres[:, :2] - centres[:, 2:] / 2, centres[:, :2] + centres[:, 2:] / 2], axis=1
    )
    boxes, kept, labels = suppressed(
        torch.from_numpy(corners[None]), torch.from_numpy(expected[None]), detections=100, overlap=0.5
    )
    for row in range(2):
        assert found["scores"][row] == pytest.approx(kept[0].numpy(), abs=1e-6)
        assert (found["labels"][row] == labels[0].numpy()).all()
        assert found["boxes"][row] == pytest.approx(boxes[0].numpy(), abs=1e-4)
    assert 0 < (found["scores"][0] > 0).sum() < 100
    assert found["embedding"][0] == pytest.approx(expected.max(axis=0))


def test_boxes_that_are_suppressed_already_are_taken_as_they_are(tmp_path: Path) -> None:
    rows = np.array([[[2, 3, 12, 9, 0.75, 1], [0, 0, 4, 4, 0.5, 0]]], np.float32)
    file = constant_file(tmp_path / "m.onnx", rows, layout="NHWC")
    made = tried(file, declaration("boxes6"))
    found = answers(made, np.zeros((1, SIDE, SIDE, 3), np.uint8))
    assert found["boxes"][0].tolist() == [[2, 3, 10, 6], [0, 0, 4, 4]]
    assert (found["scores"][0].tolist(), found["labels"][0].tolist()) == ([0.75, 0.5], [1, 0])
    assert (made.height, made.width, made.channels, made.resize) == (SIDE, SIDE, 3, "fit")
    assert made.agrees


@pytest.mark.parametrize(
    ("answer", "convention", "said"),
    [
        (np.full((1, 6, 5), 7.0), "yolo", "scores go from 0 to 7, convention yolo takes 0 to 1"),
        (np.zeros((1, 84, 5)), "yolo", r"6 for the 2 classes of the project; it gives \[N, 84, 5\]"),
        (np.zeros((1, 6, 5)), "yolo_obj", r"\[N, 5 \+ classes, A\] or"),
        (np.zeros((1, 5, 7)), "boxes6", r"takes one output \[N, K, 6\]"),
        (np.array([[[0, 0, 1, 1, 0.5, 9]]]), "boxes6", "class number 9, but names 2 classes"),
        (np.full((1, 6, 5), np.nan), "yolo", "not as many finite numbers"),
    ],
)
def test_outputs_that_are_not_what_the_convention_says_are_refused(
    tmp_path: Path, answer: NDArray[np.float32], convention: str, said: str
) -> None:
    file = constant_file(tmp_path / "m.onnx", answer.astype(np.float32))
    with pytest.raises(ForeignFileRefused, match=said):
        tried(file, declaration(convention))


def test_images_reach_a_file_as_it_was_declared(tmp_path: Path) -> None:
    """A file that gives its input back: channels turned, divided, shifted."""
    path = tmp_path / "m.onnx"
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["means"]),
        helper.make_node("Flatten", ["means"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "theirs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx", 21)], ir_version=10), path
    )
    said = declaration(
        "logits",
        task="classification",
        classes=("a", "b", "c"),
        scale=255,
        mean=(0.1, 0.2, 0.3),
        std=(0.5, 0.25, 2),
        padding="none",
    )
    made = tried(path, said)
    image = np.zeros((1, SIDE, SIDE, 3), np.uint8) + np.array([10, 100, 200], np.uint8)
    expected = (np.array([200, 100, 10]) / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.25, 2]
    assert answers(made, image)["embedding"][0] == pytest.approx(expected, abs=1e-5)
    assert made.resize == "stretch"
    assert tried(path, said).content == made.content


def linear(path: Path, *, batch: str | int = "N", side: str | int = 8, **changes: Any) -> Path:
    """A file that answers three logits by one layer, with what else a stranger may have put there."""
    weight = numpy_helper.from_array(np.ones((64, 3), np.float32), "weight")
    layers = [
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weight"], ["y"]),
    ]
    graph = helper.make_graph(
        [*layers, *changes.pop("nodes", ())],
        "theirs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 1, side, 8])],
        [
            helper.make_tensor_value_info(each, TensorProto.FLOAT, None)
            for each in changes.pop("outputs", "y")
        ],
        [weight],
    )
    opsets = [helper.make_opsetid("", changes.pop("opset", 17)), helper.make_opsetid("their.own", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path, **changes)
    return path


OUTSIDE = {"save_as_external_data": True, "location": "m.data", "size_threshold": 0}


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ({"side": "height"}, "leaves height open beside the number of images: .*make_dynamic_shape_fixed"),
        (
            {"batch": 1},
            "takes 1 image.* together and no other number: export it with a dynamic first dimension",
        ),
        (OUTSIDE, "'weight' lies outside the file: put all into one"),
        (
            {"nodes": [("Relu", "y", "z")], "outputs": "yz"},
            r"2 outputs \(y, z\), convention logits takes one",
        ),
        ({"nodes": [("their.own/Steal", "y", "z")], "outputs": "z"}, "their.own.Steal is none of ONNX's own"),
        (
            {"nodes": [("RandomNormalLike", "y", "z")], "outputs": "z"},
            "draws by chance: export it for inference",
        ),
        (
            {"nodes": [("Dropout", "yyy", "z")], "outputs": "z"},
            "operator Dropout draws by chance: export it for inference",
        ),
        (
            {"nodes": [("Loop", "y", "z")], "outputs": "z"},
            "runs as long as values say: export it without a loop",
        ),
        ({"opset": 11}, "of opset 11: export it with opset 13 or newer"),
        (
            {"nodes": [("Concat", "yy", "z")], "outputs": "z"},
            r"number for each class of the project; it gives \[N, 6\]",
        ),
    ],
)
def test_what_no_runtime_should_be_given_is_refused_with_what_mends_it(
    tmp_path: Path, file: dict[str, Any], said: str
) -> None:
    nodes = []
    for kind, given, told in file.get("nodes", ()):
        domain, _, operator = kind.rpartition("/")
        attributes: dict[str, Any] = {"axis": 1} if operator == "Concat" else {}
        nodes.append(helper.make_node(operator, list(given), [told], domain=domain, **attributes))
    path = linear(tmp_path / "m.onnx", **{**file, "nodes": nodes})
    grey = declaration("logits", task="classification", classes=("a", "b", "c"), channel_order="grey")
    with pytest.raises(ForeignFileRefused, match=said) as refused:
        tried(path, grey)
    assert "\n" not in str(refused.value)


def test_no_value_of_an_image_decides_how_much_is_computed(tmp_path: Path) -> None:
    """What is small on the images of a trial might take all memory on others, in processes without limits."""
    said = declaration("logits", task="classification", classes=("a", "b", "c"), channel_order="grey")
    count = [
        helper.make_node("ReduceMax", ["y"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Constant", [], ["one"], value_ints=[1]),
        helper.make_node("Reshape", ["whole", "one"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["room"]),
        helper.make_node("ReduceSum", ["room"], ["nothing"], keepdims=0),
        helper.make_node("Add", ["y", "nothing"], ["z"]),
    ]
    inner = helper.make_graph(
        [helper.make_node("Expand", ["y", "size"], ["wide"])],
        "branch",
        [],
        [helper.make_tensor_value_info("wide", TensorProto.FLOAT, None)],
    )
    hidden = [
        *count[:4],
        helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node("If", ["yes"], ["z"], then_branch=inner, else_branch=inner),
    ]
    for nodes, operator in ((count, "ConstantOfShape"), (hidden, "Expand")):
        path = linear(tmp_path / "m.onnx", nodes=nodes, outputs="z")
        with pytest.raises(ForeignFileRefused, match=f"operator {operator} computes as much as the values"):
            tried(path, said)
    # Of the shape of the images it may be as large as it likes.
    by_shape = [
        helper.make_node("Shape", ["y"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["nothing"]),
        helper.make_node("Add", ["y", "nothing"], ["z"]),
    ]
    assert tried(linear(tmp_path / "m.onnx", nodes=by_shape, outputs="z"), said).agrees


def test_a_file_that_ends_the_process_that_tries_it_is_refused_and_another_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not for a stranger's file")
    size = numpy_helper.from_array(np.array([1 << 31], np.int64), "size")
    most = [
        helper.make_node("Constant", [], ["size"], value=size),
        helper.make_node("ConstantOfShape", ["size"], ["many"]),
        helper.make_node("CumSum", ["many", "first"], ["summed"]),
        helper.make_node("ReduceMax", ["summed"], ["one"], keepdims=1),
        helper.make_node("Add", ["y", "one"], ["z"]),
    ]
    first = helper.make_node("Constant", [], ["first"], value_int=0)
    hungry = linear(tmp_path / "hungry.onnx", nodes=[first, *most], outputs="z")
    grey = declaration("logits", task="classification", classes=("a", "b", "c"), channel_order="grey")
    with (
        hungry.open("rb") as stream,
        pytest.raises(ForeignFileRefused, match=r"memory|cannot|ends the process"),
    ):
        try_file(stream.fileno(), grey)
    shouting = linear(
        tmp_path / "shouting.onnx", nodes=[helper.make_node("Evil\x1b[2J", ["y"], ["z"])], outputs="z"
    )
    # What a name would do to a terminal is shown.
    with shouting.open("rb") as stream, pytest.raises(ForeignFileRefused, match=r"Evil\\x1b\[2J") as refused:
        try_file(stream.fileno(), grey)
    assert "\x1b" not in str(refused.value)
    with linear(tmp_path / "fine.onnx").open("rb") as stream:
        found = try_file(stream.fileno(), grey)
    assert found.agrees and found.content == tried(tmp_path / "fine.onnx", grey).content


def lying_outside(file: str) -> TensorProto:
    """Three numbers that are read from another file."""
    given = [("location", file), ("offset", "0"), ("length", "12")]
    entries = [StringStringEntryProto(key=key, value=value) for key, value in given]
    return TensorProto(
        name="secret",
        data_type=TensorProto.FLOAT,
        dims=[3],
        data_location=TensorProto.EXTERNAL,
        external_data=entries,
    )


@pytest.mark.parametrize("where", ["a branch without nodes", "the default of a function's attribute"])
def test_no_file_of_this_machine_is_read_into_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """ONNX Runtime reads it from where the process works, in the trial and in every later one."""
    monkeypatch.chdir(tmp_path)
    np.arange(3, dtype=np.float32).tofile(tmp_path / "secret")
    model = onnx.load(linear(tmp_path / "m.onnx"))
    told = helper.make_tensor_value_info("told", TensorProto.FLOAT, [3])
    if where == "a branch without nodes":
        bare = helper.make_graph(
            [],
            "bare",
            [],
            [helper.make_tensor_value_info("secret", TensorProto.FLOAT, [3])],
            [lying_outside("secret")],
        )
        other = helper.make_graph(
            [helper.make_node("Constant", [], ["told"], value_floats=[0.0, 0.0, 0.0])], "other", [], [told]
        )
        model.graph.node.append(
            helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True)))
        )
        model.graph.node.append(
            helper.make_node("If", ["yes"], ["found"], then_branch=bare, else_branch=other)
        )
    else:
        constant = helper.make_node("Constant", [], ["told"])
        constant.attribute.append(
            AttributeProto(name="value", ref_attr_name="given", type=AttributeProto.TENSOR)
        )
        default = AttributeProto(name="given", type=AttributeProto.TENSOR, t=lying_outside("secret"))
        model.functions.append(
            helper.make_function(
                "their.own",
                "Read",
                [],
                ["told"],
                [constant],
                [helper.make_opsetid("", 17)],
                attribute_protos=[default],
            )
        )
        model.graph.node.append(helper.make_node("Read", [], ["found"], domain="their.own"))
    model.graph.node.append(helper.make_node("Add", ["y", "found"], ["z"]))
    model.graph.output[0].name = "z"
    onnx.save(model, tmp_path / "m.onnx")
    grey = declaration("logits", task="classification", classes=("a", "b", "c"), channel_order="grey")
    with pytest.raises(ForeignFileRefused, match="'secret' lies outside the file"):
        tried(tmp_path / "m.onnx", grey)
