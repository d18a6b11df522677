"""A VisionOps with models in production, without a training: a linear model written by hand is as good to serve."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from resources.models.records import (
    EVERYWHERE,
    HISTORY,
    ONNX_ARTIFACT,
    TAG_ONNX,
    TAG_WEIGHTS,
    WEIGHTS_ARTIFACT,
    ModelVersion,
    alias_of,
)
from resources.storage import Spool
from sensors.drops import drop_sensor
from sensors.new_commits import commit_sensor
from sensors.production_log import production_sensor
from tests.world import CLASSES, World
from visionops_assets.champions import registered_model
from visionops_assets.champions.history import HistoryEntry, read_history
from visionops_assets.graph import project_graph

SIDE = 8


def linear_model(
    seed: int, task: str = "classification", weights: NDArray[np.float32] | None = None
) -> tuple[bytes, bytes]:
    """A model of uint8 [N, 8, 8, 1] images as the file that ships, and its weights [64, 3], by default drawn; a
    detector names one box."""
    features = SIDE * SIDE
    if weights is None:
        weights = np.random.default_rng(seed).normal(0, 0.01, (features, len(CLASSES))).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["real", "flat"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", features])]
    if task == "classification":
        outputs.insert(
            0, helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(CLASSES)])
        )
    else:
        nodes += [
            helper.make_node("ReduceMax", ["probabilities", "last"], ["scores"], keepdims=1),
            helper.make_node("ArgMax", ["probabilities"], ["labels"], axis=1, keepdims=1),
            helper.make_node("Slice", ["embedding", "zero", "four", "last"], ["corners"]),
            helper.make_node("Mul", ["corners", "none"], ["nothing"]),
            helper.make_node("Add", ["nothing", "box"], ["flat_boxes"]),
            helper.make_node("Reshape", ["flat_boxes", "one_box"], ["boxes"]),
        ]
        outputs[:0] = [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["N", 1, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 1]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, ["N", 1]),
        ]
    constants = [
        helper.make_tensor("flat", TensorProto.INT64, [2], [-1, features]),
        helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.ravel()),
        helper.make_tensor("last", TensorProto.INT64, [1], [1]),
        helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
        helper.make_tensor("four", TensorProto.INT64, [1], [4]),
        helper.make_tensor("none", TensorProto.FLOAT, [1], [0.0]),
        helper.make_tensor("box", TensorProto.FLOAT, [4], [1.0, 2.0, 3.0, 4.0]),
        helper.make_tensor("one_box", TensorProto.INT64, [3], [-1, 1, 4]),
    ]
    images = [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", SIDE, SIDE, 1])]
    graph = helper.make_graph(nodes, "linear", images, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    described = {
        "visionops.format": "1",
        "visionops.task": task,
        "visionops.classes": json.dumps(CLASSES),
        "visionops.input": json.dumps({"height": SIDE, "width": SIDE, "channels": 1, "resize": "stretch"}),
    }
    helper.set_model_props(model, described)
    return model.SerializeToString(), weights.tobytes()


class ProductionWorld(World):
    """A world that also has a spool and the sensor of production."""

    @property
    def spool(self) -> Spool:
        return Spool(root=str(self.root / "spool"))

    @property
    def resources(self) -> dict[str, Any]:
        return {**super().resources, "spool": self.spool}

    @property
    def definitions(self) -> dg.Definitions:
        graphs = [project_graph(project) for project in self.projects]
        kinds = (drop_sensor, commit_sensor, production_sensor)
        return dg.Definitions.merge(
            *(graph.definitions for graph in graphs),
            dg.Definitions(
                sensors=[sensor(graph) for graph in graphs for sensor in kinds], resources=self.resources
            ),
        )

    def register(self, seed: int, learnt: NDArray[np.float32] | None = None) -> ModelVersion:
        """A linear model as a registered version; nothing runs it yet."""
        name = self.project.project
        onnx, weights = linear_model(seed, self.project.task, learnt)
        run = self.registry.runs.start(name, f"linear-{seed}", {})
        self.registry.artifacts.put_bytes(run.id, ONNX_ARTIFACT, onnx)
        self.registry.artifacts.put_bytes(run.id, WEIGHTS_ARTIFACT, weights)
        self.registry.runs.end(run.id)
        tags = {TAG_WEIGHTS: hashlib.sha256(weights).hexdigest(), TAG_ONNX: hashlib.sha256(onnx).hexdigest()}
        return self.registry.models.create_version(name, run.id, tags)

    def put_in_production(
        self, version: ModelVersion, group: str = EVERYWHERE, when: datetime | None = None
    ) -> None:
        """What a promotion leaves: an entry in the history, then the alias."""
        name = self.project.project
        model = self.registry.models.get(name)
        number = read_history(model.tags).next_number
        entry = HistoryEntry.model_validate(
            {
                "number": number,
                "kind": "promotion",
                "group": group,
                "who": "test",
                "when": when or datetime.now(UTC),
                "why": "test",
                "from": model.aliases.get(alias_of(group)),
                "to": version.version,
            }
        )
        self.registry.models.set_tag(name, registered_model.tag_name(HISTORY, number), entry.to_json())
        self.registry.models.set_alias(name, alias_of(group), version.version)
