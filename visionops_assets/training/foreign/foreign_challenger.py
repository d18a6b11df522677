"""A finished ONNX file recorded as a challenger: in a run of its own, under the digest of what ships of it, with what
was declared and who said it. The gate, promotion and production treat it as any other model.
"""

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from resources.escaping import markdown, one_line
from resources.models.records import (
    FAILED,
    FOREIGN,
    ONNX_ARTIFACT,
    PROVENANCE_ARTIFACT,
    TAG_CODE,
    TAG_COMMIT,
    TAG_DESCRIPTION,
    TAG_KIND,
    TAG_MANIFEST,
    TAG_ONNX,
    TAG_PARTITION,
    TAG_PROVENANCE,
    TAG_RECIPE,
    TAG_UNSEEN,
    TAG_WEIGHTS,
    ArtifactMissing,
)
from resources.models.registry import ModelRegistry
from visionops_assets.config.project import Project
from visionops_assets.config.recipe import InputSpec, ModelSpec, Recipe, canonical_json
from visionops_assets.dataset.versions.dataset_version import DatasetVersion
from visionops_assets.training.challenger import MANIFEST_ARTIFACT, PARITY_ARTIFACT
from visionops_assets.training.foreign.limited_trial import TOLERANCE, Tried, try_file
from visionops_assets.training.foreign.onnx_declaration import Declaration, ForeignFileRefused
from visionops_assets.training.provenance import (
    CodeOrigin,
    DataOrigin,
    ForeignOrigin,
    Provenance,
    installed_packages,
)

_UNKNOWN = "unknown"
_PIECE = 1 << 20
_LONGEST_NAME, _LONGEST_REASON = 200, 1000


@dataclass(frozen=True)
class Word:
    """Who says what a file was trained on: the dataset `version`; or that the holdout of this one is new to it, and
    why, where `unseen_because` says so."""

    who: str
    version: DatasetVersion
    unseen_because: str | None = None


def record_file(
    project: Project,
    file: Path,
    said: Declaration,
    word: Word,
    registry: ModelRegistry,
    say: Callable[[str], None],
) -> str:
    """The id of the run that holds a file as a challenger, found or made; what is missing of it is put back.

    The file is opened in a process that it may end, and nowhere else. Raises `ForeignFileRefused`, with nothing
    recorded, and what MLflow raises.
    """
    name = one_line(file.name, _LONGEST_NAME)
    with tempfile.TemporaryDirectory(prefix="visionops-onnx-") as folder:
        # What is tried is what is recorded, whatever becomes of the file meanwhile.
        copy = Path(folder) / "model.onnx"
        digest = _copied(file, copy)
        say(f"{name} ({digest[:12]}) is tried in a process of its own")
        try:
            with copy.open("rb") as stream:
                tried = try_file(stream.fileno(), said)
        except ForeignFileRefused as error:
            raise ForeignFileRefused(f"{file}: {error}") from error
    origin = _origin(name, digest, said, word)
    return _recorded(project, tried, origin, word, registry)


def _copied(file: Path, copy: Path) -> str:
    """Copy a file and return its SHA-256. Raises `ForeignFileRefused` where there is none that can be read."""
    digest = hashlib.sha256()
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as source, copy.open("wb") as target:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise ForeignFileRefused(f"{file}: is no file: name an ONNX file")
            while piece := source.read(_PIECE):
                digest.update(piece)
                target.write(piece)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise ForeignFileRefused(f"{file}: cannot be read ({error.strerror}): name an ONNX file") from error
    return digest.hexdigest()


def _origin(name: str, digest: str, said: Declaration, word: Word) -> ForeignOrigin:
    because = None if word.unseen_because is None else one_line(word.unseen_because, _LONGEST_REASON)
    return ForeignOrigin(
        file=name,
        file_sha256=digest,
        class_order=said.classes,
        said_by=one_line(word.who, _LONGEST_NAME),
        unseen_because=because,
        **said.model_dump(include={"convention", "channel_order", "scale", "mean", "std", "padding"}),
    )


def _recorded(
    project: Project, tried: Tried, origin: ForeignOrigin, word: Word, registry: ModelRegistry
) -> str:
    ships = hashlib.sha256(tried.content).hexdigest()
    version = word.version
    manifest = version.manifest.digest if origin.unseen_because is None else _UNKNOWN
    content = [project.project, manifest, ships, origin.unseen_because and origin.said_by]
    identity = hashlib.sha256(canonical_json(content).encode()).hexdigest()
    recipe = hashlib.sha256(canonical_json(origin.stated).encode()).hexdigest()
    provenance = Provenance(
        project=project.project,
        task=project.task,
        identity=identity,
        data=_data(project, version, manifest),
        recipe=Recipe(
            input=InputSpec.model_validate(
                {name: getattr(tried, name) for name in ("height", "width", "channels", "resize")}
            ),
            model=ModelSpec(class_path=f"onnx.{origin.convention}"),
        ),
        recipe_digest=recipe,
        code=CodeOrigin(digest=_code(), revision=None, uncommitted_sha256=None),
        packages=installed_packages(),
        hardware={},
        weights_sha256=ships,
        onnx_sha256=ships,
        metrics={},
        foreign=origin,
    )
    runs = registry.runs
    run = runs.open(
        project.project, identity, f"{project.project} {origin.file}", _tags(provenance, version, origin)
    )
    try:
        _put(registry, run.id, run.tags if run.finished else {}, tried, provenance, version)
    except BaseException:
        if not run.finished:
            runs.end(run.id, FAILED)
        raise
    if not run.finished:
        runs.log_params(run.id, origin.stated)
        runs.end(run.id)
    return run.id


def _data(project: Project, version: DatasetVersion, manifest: str) -> DataOrigin:
    counts = {"train_samples": 0, "validation_samples": 0}
    if manifest != _UNKNOWN:
        counts = {
            "train_samples": len(version.split("train")),
            "validation_samples": len(version.split("val")),
        }
    return DataOrigin(
        repository=project.repository,
        annotations=project.annotations,
        commit=version.commit.id,
        manifest_digest=manifest,
        classes=project.classes,
        **counts,
    )


def _tags(provenance: Provenance, version: DatasetVersion, origin: ForeignOrigin) -> dict[str, str]:
    told = f"{origin.file} (SHA-256 {origin.file_sha256}), made elsewhere and not reproducible, by {origin.said_by}."
    unseen = (
        {} if origin.unseen_because is None else {TAG_UNSEEN: f"{origin.said_by}: {origin.unseen_because}"}
    )
    return {
        TAG_KIND: FOREIGN,
        TAG_PARTITION: version.partition,
        TAG_COMMIT: version.commit.id,
        TAG_MANIFEST: provenance.data.manifest_digest,
        TAG_RECIPE: provenance.recipe_digest,
        TAG_CODE: provenance.code.digest,
        TAG_DESCRIPTION: markdown(told),
        **unseen,
    }


def _put(
    registry: ModelRegistry,
    run_id: str,
    tags: Mapping[str, str],
    tried: Tried,
    provenance: Provenance,
    version: DatasetVersion,
) -> None:
    """Write the files of a model and the tags with their digests; of a finished run, with its `tags`, what is gone."""
    files, ships = registry.artifacts, provenance.weights_sha256
    record = provenance.to_json().encode()
    contents = {ONNX_ARTIFACT: tried.content, PARITY_ARTIFACT: json.dumps(_proof(tried), indent=1).encode()}
    if provenance.data.manifest_digest != _UNKNOWN:
        contents[MANIFEST_ARTIFACT] = json.dumps(version.manifest.to_json(), indent=1).encode()
    recorded = tags.get(TAG_PROVENANCE)
    # Recorded at another time, with other packages, it is the one that is registered.
    if recorded in (None, hashlib.sha256(record).hexdigest()):
        contents[PROVENANCE_ARTIFACT] = record
    for path, content in contents.items():
        if not tags or not _is_there(registry, run_id, path, content):
            files.put_bytes(run_id, path, content)
    if not tags:
        digests = {TAG_WEIGHTS: ships, TAG_ONNX: ships, TAG_PROVENANCE: hashlib.sha256(record).hexdigest()}
        registry.runs.set_tags(run_id, digests)


def _is_there(registry: ModelRegistry, run_id: str, path: str, content: bytes) -> bool:
    try:
        return registry.artifacts.sha256(run_id, path) == hashlib.sha256(content).hexdigest()
    except ArtifactMissing:
        return False


def _proof(tried: Tried) -> dict[str, object]:
    """What stands in the place of parity: there is no trained model to compare with."""
    does = "answers" if tried.agrees else "does NOT answer"
    return {
        **{name: value for name, value in asdict(tried).items() if name == "images"},
        "tolerance": TOLERANCE,
        "largest_difference": tried.difference,
        "largest_embedding_difference": 0.0,
        "agreement": 1.0,
        "compared": "probabilities or scores",
        "failure": None,
        "passed": tried.agrees,
        "summary": (
            f"made elsewhere, so there is no trained model to compare with: the ONNX file {does} an image alike alone "
            f"and beside others, {tried.images} images, differences of at most {tried.difference:.2g} (allowed "
            f"{TOLERANCE:.2g})"
        ),
    }


def _code() -> str:
    """SHA-256 of what puts a file into the form that ships."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(f"{source.name}\0".encode() + source.read_bytes())
    return digest.hexdigest()
