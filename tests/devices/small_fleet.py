"""A repository with small real models in a folder, and devices that follow it, in this process."""

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edge.agent import Agent, Profile, Surroundings
from edge.engines import CPU, ProcessBuild
from edge.fetch import Client
from edge.files import Files, System
from edge.formats import GOLDEN, MODEL, canonical
from edge.onnx_model import open_model
from edge.outbox import Reporter
from edge.reports import read_report
from edge.runner import OpenedHere
from edge.selftest import Golden, examine
from edge.trust import Trust
from resources.storage import ArtifactStore
from visionops_assets.delivery import signers
from visionops_assets.delivery.repository import Repository

PROJECT, GROUP, DEVICE = "shapes", "line-1", "cam-17"
CLASSES = ("bar", "ring")


def onnx_file(seed: int, *, padding: int = 0) -> bytes:
    """A small classifier as the product ships one; `padding` bytes make it longer."""
    generator = np.random.default_rng(seed)
    weights = generator.normal(size=(64, len(CLASSES))).astype(np.float32) / 64
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["floats"], ["rows"]),
            helper.make_node("MatMul", ["rows", "weights"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"]),
        ],
        "small",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 8, 8, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(CLASSES)])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    spec = {"height": 8, "width": 8, "channels": 1, "resize": "stretch"}
    described = {
        "visionops.format": "1",
        "visionops.task": "classification",
        "visionops.classes": json.dumps(CLASSES),
        "visionops.input": json.dumps(spec),
        "padding": "".join(generator.choice(list("abcdefgh"), padding)),
    }
    for key, value in described.items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


@cache
def frame(seed: int = 0) -> bytes:
    """An image as a camera writes it."""
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class Bundle:
    """What is published: its manifest and files."""

    manifest: dict[str, Any]
    blobs: dict[str, bytes]

    @property
    def id(self) -> str:
        return hashlib.sha256(canonical(self.manifest)).hexdigest()

    @property
    def named(self) -> dict[str, Any]:
        return {"bundle": self.id, "release": self.manifest["release"]}


class Clock:
    """A time that tests move on."""

    def __init__(self, time: datetime | None = None) -> None:
        self.time = time or datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.time

    def pass_(self, **how_long: float) -> None:
        self.time += timedelta(**how_long)


@dataclass
class Fleet:
    """A project's repository with embedded keys in a folder."""

    root: Path
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        signers.make_keys(self.root / "keys")
        self.keys = signers.embedded_keys(self.root / "keys")
        self.store = ArtifactStore(root=str(self.root / "repository"))
        self.repository = Repository(self.store, PROJECT, self.keys, self.clock)
        if self.repository.create():
            self.repository.add_group(GROUP)

    @property
    def url(self) -> str:
        return (self.root / "repository" / PROJECT).as_uri()

    def bundle(self, seed: int, *, release: int | None = None, wrong: bool = False, **changes: Any) -> Bundle:
        """A bundle of the small model with this seed; `wrong`: its golden answers are another model's."""
        model = onnx_file(seed, padding=changes.pop("padding", 0))
        golden = golden_of(onnx_file(seed + 100) if wrong else model, self.root)
        blobs = {MODEL: model, GOLDEN: golden}
        content = {
            "format": 1,
            "project": PROJECT,
            "release": self.repository.next_release() if release is None else release,
            "variant": "fp32",
            "model": {"version": seed, "weights_sha256": f"{seed:064x}"},
            "files": {
                name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
                for name, data in blobs.items()
            },
            "requires": {"onnxruntime": "1.17", "opset": 20, "ir": 9, "memory_mb": 10},
            "golden": {"tolerance": 0.001, "same_first_class": 1.0},
            "budget": {"cpu_ms": 1000.0, "memory_mb": 100_000},
            **changes,
        }
        return Bundle(content, blobs)

    def publish(self, bundle: Bundle, **assignment: Any) -> dict[str, Any]:
        """Sign a bundle and make it the base of the group."""
        assert self.repository.add_bundle(bundle.manifest, bundle.blobs)
        return self.assign(base=bundle.named, **assignment)

    def assign(self, **assignment: Any) -> dict[str, Any]:
        return self.repository.assign(GROUP, {"observe": {"frames": 3, "seconds": 86400}, **assignment})

    def device(self, name: str = DEVICE, **options: Any) -> "Device":
        return Device(self, self.root / "devices" / name, name, **options)


@dataclass
class Device:
    """A device that can be stopped anywhere and started again."""

    fleet: Fleet
    folder: Path
    name: str
    group: str = GROUP
    system: System = field(default_factory=System)
    open_runner: Callable[..., Any] = OpenedHere
    examine: Callable[..., Any] = examine
    provider: str = CPU
    prepare: Callable[..., Any] = ProcessBuild
    facts: Mapping[str, Any] = field(
        default_factory=lambda: {
            "onnxruntime": "1.32.0",
            "machine": "x86_64",
            "memory_mb": 1000.0,
            "providers": ["CPUExecutionProvider"],
        }
    )
    synchronised: bool = False
    url: str | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        root, key = self.folder / "root.json", self.folder / "device.pem"
        if not root.exists():
            root.write_bytes(self.fleet.repository.bootstrap())
            signers.write_key(key)
        self._key = key.read_bytes()
        self.client = Client()

    def start(self) -> Agent:
        """A new process of the agent, as far as one process can."""
        files = Files(self.folder / "state", self.system)
        url = self.url or self.fleet.url
        return Agent(
            files,
            Profile(self.name, self.group, self.provider),
            trust=Trust(files, self.client, url, PROJECT, (self.folder / "root.json").read_bytes()),
            client=self.client,
            reporter=Reporter(
                self.client, (self.fleet.root / "reports").as_uri(), PROJECT, self.name, self._key
            ),
            around=Surroundings(
                now=self.fleet.clock,
                synchronised=lambda: self.synchronised,
                facts=lambda: self.facts,
                open_runner=self.open_runner,
                examine=self.examine,
                prepare=self.prepare,
            ),
        )

    def events(self) -> list[dict[str, Any]]:
        """All that arrived, and how it reads after folding: each number once."""
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        public = load_pem_private_key(self._key, None).public_key()
        found: dict[int, dict[str, Any]] = {}
        for file in sorted((self.fleet.root / "reports" / PROJECT / self.name).glob("*.jsonl.gz")):
            for event in read_report(file.read_bytes(), public).events:  # type: ignore[arg-type]
                assert found.setdefault(event["id"], dict(event)) == event
        return [found[number] for number in sorted(found)]


def update(agent: Agent, frames: int = 4) -> dict[str, Any]:
    """What a device does in the time of a few images."""
    agent.look()
    agent.settle()
    answers = [agent.answer(frame(seed)) for seed in range(frames)]
    agent.settle()
    agent.deliver()
    return answers[-1]


def golden_of(model: bytes, folder: Path) -> bytes:
    """The golden answers of a model."""
    file = folder / "golden-model.onnx"
    file.write_bytes(model)
    images = np.random.default_rng(1).integers(0, 255, (6, 8, 8, 1), dtype=np.uint8)
    return Golden.of(open_model(file), images).to_bytes()
