"""A version to a group: its bundle, signed once, and the assignment that names it as what the group runs.

A bundle is what ships of a registered version: its file, golden answers, and a manifest that says what it takes.
"""

import hashlib
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.formats import FORMAT, GOLDEN, MODEL
from edge.machine import MACHINES, RUNTIME_OF_IR, RUNTIME_OF_OPSET
from edge.onnx_model import open_model
from edge.selftest import Golden
from resources.error_family import NotFound
from resources.models.records import TAG_PROVENANCE, ModelVersion
from resources.storage import ArtifactStore
from visionops_assets.config.project import Project
from visionops_assets.dataset.cache.samples import load_samples
from visionops_assets.dataset.versions.dataset_version import named_version
from visionops_assets.delivery.repository import Repository
from visionops_assets.delivery.tuf_files import CannotPublish

# What an assignment says of how devices look and change, and what else one takes over from the one before it.
ASSIGNMENT_OPTIONS = frozenset({"observe", "window", "max_kbps", "poll_every", "log"})
ASSIGNMENT_KEEPS = ASSIGNMENT_OPTIONS | {"report_every", "revoked", "moved", "shadow", "trial"}
MakeBundle = Callable[[int], tuple[dict[str, Any], dict[str, bytes]]]
GOLDEN_BYTES = 2_000_000
# Of the process that answers, without the model: Python, numpy, Pillow and ONNX Runtime.
RUNNER_MB = 120


@dataclass(frozen=True)
class Publication:
    """What a group was given. `waits` says for whom, where approvers have not signed yet."""

    group: str
    release: int
    bundle: str
    serial: int | None
    changed: bool
    waits: str | None = None


@dataclass(frozen=True)
class WantedBundle:
    """The bundle of a model that a group is to run. `make` makes it as a release, where none is signed yet.

    `signed` is what of the manifest is asked for, by part: what is signed already cannot be changed, and with
    `exactly` another release says it, no more and no less. `anew`: a new release of it all the same, for what lies
    below the floor.
    """

    onnx_sha256: str
    make: MakeBundle
    signed: Mapping[str, Any]
    exactly: bool = False
    anew: bool = False


def publish(
    repository: Repository,
    group: str,
    wanted: WantedBundle,
    options: Mapping[str, Any],
    *,
    floor: int | None = None,
    keep: Collection[str] = ASSIGNMENT_KEEPS,
) -> Publication:
    """Let a group run a model.

    A bundle that was signed before is named again: a rollback takes no approver. `options` replace those of the
    group's last assignment, of which `keep` names what is taken over. The floor rises to what the base replaces, and
    never passes it, so that the way back stays open. Raises `CannotPublish`.
    """
    repository.complete_bundle()
    before = repository.assignment(group)
    waiting = repository.waiting()
    if waiting is not None and ships_model(waiting[0], wanted.onnx_sha256):
        return _waiting_publication(repository, group, waiting[0])
    least = int(before["floor"]) if before is not None else 0
    known = [
        (id, manifest)
        for id, manifest in _shipping(repository, wanted.onnx_sha256, least)
        if not wanted.exactly or is_signed_so(manifest, wanted.signed)
    ]
    if wanted.anew or not known:
        manifest, blobs = wanted.make(repository.next_release())
        if not repository.add_bundle(manifest, blobs):
            return _waiting_publication(repository, group, manifest)
        listed = repository.bundles()
        known = [(id, each) for id, each in listed.items() if each["release"] == manifest["release"]]
    bundle, manifest = known[-1]
    _require_as_signed(manifest, wanted.signed)
    release = int(manifest["release"])
    content = _carried_over(before or {}, keep, options)
    previous = _replaced_by(bundle, before)
    content |= {
        "base": {"bundle": bundle, "release": release},
        "previous": previous,
        "candidate": None,
        "floor": _floor(group, release, floor, least, previous),
    }
    if before is not None and _says(before, content, (ASSIGNMENT_KEEPS - set(keep)) - set(content)):
        return Publication(group, release, bundle, int(before["serial"]), changed=False)
    told = repository.assign(group, content)
    return Publication(group, release, bundle, int(told["serial"]), changed=True)


def _shipping(repository: Repository, onnx_sha256: str, least: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Signed bundles of a model by their ids, from a release on."""
    for id, manifest in repository.bundles().items():
        if ships_model(manifest, onnx_sha256) and int(manifest["release"]) >= least:
            yield id, manifest


def _carried_over(
    before: Mapping[str, Any], keep: Collection[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """What a new assignment says of an earlier one, under the options that are given now."""
    kept = {name: value for name, value in before.items() if name in keep}
    return kept | {name: value for name, value in options.items() if value is not None}


def _replaced_by(bundle: str, before: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the group ran before this bundle: that of its last assignment, or what that one replaced."""
    if before is None:
        return None
    base: dict[str, Any] | None = before["base"]
    return before.get("previous") if base is not None and base["bundle"] == bundle else base


def _floor(
    group: str, release: int, asked: int | None, least: int, previous: Mapping[str, Any] | None
) -> int:
    """From which release on devices take one. Raises `CannotPublish` for one that was asked and cannot be."""
    wanted = asked if asked is not None else min(release, int(previous["release"]) if previous else 0)
    if wanted > release:
        raise CannotPublish(f"a floor of {wanted} would refuse release {release} itself")
    if wanted < least and asked is not None:
        raise CannotPublish(f"the floor of {group} is {least}, and devices do not let it fall")
    return max(wanted, min(least, release))


def _says(before: Mapping[str, Any], content: Mapping[str, Any], dropped: Collection[str]) -> bool:
    """Whether an assignment says the same already, and nothing that is dropped."""
    return all(before.get(name) == value for name, value in content.items()) and all(
        before.get(name) is None for name in dropped
    )


def move_device(repository: Repository, device: str, from_group: str, to_group: str) -> bool:
    """Tell a device, by the assignment of the group it looks at, to look at another; False where nobody is told yet.

    A device stays where it is until the other group is assigned something.
    """
    content = repository.assignment(from_group)
    back = repository.assignment(to_group)
    if back is not None and device in back.get("moved", {}):
        moved = {name: group for name, group in back["moved"].items() if name != device}
        repository.assign(to_group, {**_options_of_assignment(back), "moved": moved})
        if content is None:
            # It is still there: nothing could call it to where it was sent.
            return True
    if content is None:
        return False
    repository.assign(
        from_group,
        {**_options_of_assignment(content), "moved": {**content.get("moved", {}), device: to_group}},
    )
    return True


def _options_of_assignment(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in ("serial", "issued_at")}


def is_signed_so(manifest: Mapping[str, Any], asked: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a manifest says what is asked of it, no more and no less: budgets, and tolerances by provider."""
    return bool(
        manifest["budget"] == asked.get("budget", {})
        and manifest["golden"].get("providers", {}) == asked.get("golden", {}).get("providers", {})
    )


def _require_as_signed(manifest: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    for part, values in asked.items():
        for name, value in values.items():
            stated = manifest[part].get(name)
            if stated != value:
                raise CannotPublish(
                    f"release {manifest['release']} of this model is signed with {part} {name} "
                    f"{'unstated' if stated is None else stated}, not {value}: --anew ships it as another release"
                )


def ships_model(manifest: Mapping[str, Any], onnx_sha256: str) -> bool:
    """Whether a manifest ships the model of this file."""
    return bool(manifest["files"][MODEL]["sha256"] == onnx_sha256)


def _waiting_publication(repository: Repository, group: str, manifest: Mapping[str, Any]) -> Publication:
    waiting = repository.waiting()
    assert waiting is not None
    return Publication(group, int(manifest["release"]), "", None, changed=False, waits=waiting[1])


GOLDEN_IMAGES, FEWEST_IMAGES = 62, 3


class NoGoldenImages(NotFound):
    """A version cannot be shipped: there is nothing to test it with on a device."""


def validation_images(
    project: Project,
    version: ModelVersion,
    model: bytes,
    *,
    lakefs: Any,
    artifacts: ArtifactStore,
    samples: Path,
) -> NDArray[np.uint8]:
    """Images of the validation side of what a version was trained on, decoded for it, spread evenly.

    Never of the holdout, which does not leave the house. Raises `NoGoldenImages`.
    """
    if version.partition is None:
        raise NoGoldenImages(
            f"version {version.version} of {project.project} does not say what it was trained on: "
            "give images by --golden"
        )
    dataset = named_version(lakefs, artifacts, project, version.partition)
    rows = dataset.split("val")
    spec = _input_spec(model)
    most = max(FEWEST_IMAGES, min(GOLDEN_IMAGES, GOLDEN_BYTES // (spec.height * spec.width * spec.channels)))
    rows = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int))]
    if len(rows) < FEWEST_IMAGES:
        raise NoGoldenImages(
            f"{version.partition} of {project.project} has {len(rows)} validation images, {FEWEST_IMAGES} are needed: "
            "give images by --golden"
        )
    view, _ = load_samples(lakefs, project.repository, dataset.commit.id, rows, samples, spec)
    return view.gather(np.arange(len(rows)))


def images_of_files(files: list[Path], model: bytes) -> NDArray[np.uint8]:
    """Images of one's own, decoded for a model. Raises `UnreadableImage` naming one."""
    from edge.images.decode import decode

    spec = _input_spec(model)
    size = (spec.height, spec.width, spec.channels, spec.resize)
    return np.stack([decode(file.read_bytes(), str(file), *size) for file in files])


def make_bundle(
    version: ModelVersion,
    model: bytes,
    images: NDArray[np.uint8],
    *,
    release: int,
    budget: Mapping[str, float],
    tolerances: Mapping[str, float],
    verdict: str | None,
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A manifest, and the files it names. A black and a white image are added to those given.

    `tolerances`: by provider of ONNX Runtime, the most that an answer may differ on a device.
    """
    import onnx

    described = onnx.load_from_string(model)
    opset = max(each.version for each in described.opset_import if each.domain in ("", "ai.onnx"))
    ir = described.ir_version
    asked = np.concatenate([images, np.zeros_like(images[:1]), np.full_like(images[:1], 255)])
    with _OpenedModel(model) as opened:
        golden = Golden.of(opened, asked).to_bytes()
        spec = {
            "task": opened.task,
            "classes": list(opened.classes),
            "input": {
                "height": opened.height,
                "width": opened.width,
                "channels": opened.channels,
                "resize": opened.resize,
            },
        }
    blobs = {MODEL: model, GOLDEN: golden}
    memory = RUNNER_MB + 4 * len(model) // 1_000_000
    manifest = {
        "format": FORMAT,
        "project": version.project,
        "release": release,
        "variant": "fp32",
        "model": {
            "version": version.version,
            "weights_sha256": version.weights_sha256,
            "partition": version.partition,
            "provenance_sha256": version.tags.get(TAG_PROVENANCE),
        },
        "spec": spec,
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            for name, data in blobs.items()
        },
        "requires": {
            "onnxruntime": _newest_runtime(RUNTIME_OF_OPSET.get(opset), RUNTIME_OF_IR.get(ir)),
            "opset": opset,
            "ir": ir,
            "machine": list(MACHINES),
            "memory_mb": memory,
            "providers": ["CPUExecutionProvider"],
        },
        "golden": {"tolerance": 0.001, "same_first_class": 1.0, **golden_by_provider(tolerances)},
        "budget": dict(budget),
        "gate": {"verdict": verdict},
    }
    return manifest, blobs


def golden_by_provider(tolerances: Mapping[str, float]) -> dict[str, Any]:
    """What the rules of golden answers in a manifest say of single providers; nothing where none has its own."""
    providers = {name: {"tolerance": value} for name, value in sorted(tolerances.items())}
    return {"providers": providers} if providers else {}


class _OpenedModel:
    """A model of bytes, opened from a file that is gone afterwards."""

    def __init__(self, model: bytes) -> None:
        self._model = model

    def __enter__(self) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / MODEL
            file.write_bytes(self._model)
            return open_model(file)

    def __exit__(self, *_: object) -> None: ...


def _input_spec(model: bytes) -> Any:
    with _OpenedModel(model) as opened:
        return opened


def _newest_runtime(*runtimes: str | None) -> str:
    found = [each for each in runtimes if each is not None]
    return max(found or ["1.20"], key=lambda each: tuple(map(int, each.split("."))))
