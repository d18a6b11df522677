"""Whether the values of an image decide how much a stranger's graph computes: what passes a trial on a few images might
then take any memory or time where the model is used, which is in processes without limits.
"""

from collections.abc import Iterator, Mapping, Sequence

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

# By operator, its inputs that say how large its output is, or how often it computes.
_SIZES: Mapping[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "DFT": (1,),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "If": (0,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
    "STFT": (1, 3),
    "Tile": (1,),
    "Upsample": (1,),
}
# What is known of a tensor by its shape alone.
_OF_THE_SHAPE = frozenset({"Shape", "Size"})


def sized_by_values(model: ModelProto) -> NodeProto | None:
    """The first node whose size the values of an input decide; None where shapes alone do.

    Shapes that values decide, as of NonZero, are not followed: suppression needs them, and they are bounded by what
    they are of.
    """
    weights = {each.name for each in model.graph.initializer}
    found = _walk(model.graph.node, {each.name for each in model.graph.input} - weights)
    if found is not None:
        return found
    for function in model.functions:
        if (found := _walk(function.node, set(function.input))) is not None:
            return found
    return None


def _walk(nodes: Sequence[NodeProto], values: set[str]) -> NodeProto | None:
    """`values` has the names of tensors that values of an input decide; what of these nodes they decide is added."""
    for node in nodes:
        if any(
            place < len(node.input) and node.input[place] in values for place in _SIZES.get(node.op_type, ())
        ):
            return node
        branches = list(_branches(node))
        for branch in branches:
            if (found := _walk(branch.node, values)) is not None:
                return found
        told = {each.name for branch in branches for each in branch.output}
        if values & {*node.input, *told} and node.op_type not in _OF_THE_SHAPE:
            values.update(name for name in node.output if name)
    return None


def _branches(node: NodeProto) -> Iterator[GraphProto]:
    for each in node.attribute:
        if each.type == AttributeProto.GRAPH:
            yield each.g
        yield from each.graphs
