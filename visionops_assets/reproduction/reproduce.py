"""Make a registered version again from its recorded world, and keep the certificate with the version."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from resources.error_family import NotFound
from resources.models.records import (
    PROVENANCE_ARTIFACT,
    TAG_CODE,
    TAG_COMMIT,
    TAG_MANIFEST,
    TAG_PROVENANCE,
    TAG_WEIGHTS,
    ArtifactMissing,
    ModelNotFound,
    ModelVersion,
    version_on,
)
from resources.safe_files import WorkingFolder
from resources.service_clients import Stores
from resources.storage import ArtifactStore
from visionops_assets.champions.registered_model import Registry
from visionops_assets.common.errors import WeightsError
from visionops_assets.promotion.model_card import wilson
from visionops_assets.reproduction.certificate import (
    Certificate,
    Reproduced,
    certify,
    certify_missing,
    compare_inputs,
    keep_certificate,
    restore_certificate,
)
from visionops_assets.reproduction.clean_process import (
    KEPT,
    TRAINING,
    Report,
    ReproductionFailed,
    Request,
    ask_recorded_code,
)
from visionops_assets.reproduction.recorded_world import (
    InputMissing,
    build_environment,
    plan_environment,
    present_environment,
    recorded_sources,
)
from visionops_assets.training.challenger import PATCH_ARTIFACT
from visionops_assets.training.code_digest import ROOT
from visionops_assets.training.provenance import Provenance, installed_packages


@dataclass(frozen=True)
class Scope:
    """How far a reproduction goes.

    `inputs_only` trains and installs nothing; `present_versions` trains with the packages that are here. With
    `register`, files of the version that are gone or altered are put back where what was made is the same. Versions
    made before records had a digest are reproduced where `unverified` allows it, and their certificate says so.
    """

    inputs_only: bool = False
    present_versions: bool = False
    register: bool = False
    unverified: bool = False


ALL_OF_IT = Scope()


def reproduce(
    stores: Stores,
    project: str,
    version: int | None = None,
    *,
    when: datetime,
    scope: Scope = ALL_OF_IT,
    say: Callable[[str], None],
) -> Reproduced:
    """Reproduce a version, by default the one in production, and store the certificate with it.

    Of today nothing counts but this machine: the code comes from git, the packages by their recorded
    versions, the data from its commit, the recipe from the record. Nothing of the record is used, and none of its code
    runs, unless it has the digest that is registered.

    Raises `ModelNotFound`, `ReproductionFailed`, `EnvironmentUnavailable`, and what MLflow and lakeFS raise.
    """
    registry, scratch = stores.registry, Path(stores.scratch.root)
    made = _version(registry, project, version)
    original, verified = _provenance(registry, made, scope.unverified)
    here = scope.inputs_only or scope.present_versions
    planned = present_environment() if here else plan_environment(original.packages, installed_packages())
    restored: tuple[str, ...] = ()
    scratch.mkdir(parents=True, exist_ok=True)
    # What a reproduction that was killed left goes first.
    with WorkingFolder(scratch, "reproduction") as folder:
        try:
            with recorded_sources(original.code, _patch(registry, made), folder / "code", ROOT) as sources:
                say(f"code: {original.code.revision or 'no revision recorded, the present code'}")
                say(planned.words)
                if not scope.inputs_only:
                    _give_start(original, stores.artifacts, ArtifactStore(root=str(folder / KEPT)))
                report = ask_recorded_code(
                    Request(original=original, train=not scope.inputs_only),
                    folder,
                    python=planned.python,
                    sources=sources,
                    packages=build_environment(planned, scratch / "environments"),
                    lakefs=stores.lakefs,
                    say=say,
                )
            certificate = _certificate(made.version, original, report)
            if scope.register and certificate.compared == "weights" and certificate.result == "identical":
                restored = restore_certificate(registry, made, folder / TRAINING)
        except _StartMissing as gone:
            certificate = certify_missing(
                made.version, original, "recipe", "model.init_weights", gone.expected, str(gone)
            )
        except InputMissing as gone:
            certificate = certify_missing(
                made.version, original, "code", gone.name, gone.expected, gone.found
            )
    certificate = certificate.model_copy(update={"verified": verified})
    return replace(keep_certificate(registry, made, certificate, when), restored=restored)


class _StartMissing(NotFound):
    """The weights to start from are not kept, and are not to be had any more."""

    def __init__(self, expected: str, why: str) -> None:
        super().__init__(why)
        self.expected = expected


def _give_start(original: Provenance, kept_here: ArtifactStore, given: ArtifactStore) -> None:
    """Hand the weights to start from to the recorded code, which then asks no hub for them."""
    from visionops_assets.training.pretrained.kept_weights import kept, key_of

    declared = original.recipe.model.init_weights
    if declared is None:
        return
    try:
        given.write(key_of(declared.sha256), kept(declared, kept_here))
    except WeightsError as error:
        raise _StartMissing(declared.sha256, str(error)) from error


def _version(registry: Registry, project: str, version: int | None) -> ModelVersion:
    wanted = version if version is not None else version_on(registry.models.get(project))
    if wanted is None:
        raise ModelNotFound(f"{project} has no model in production: name one with --model-version")
    return registry.models.version(project, wanted)


def _provenance(registry: Registry, made: ModelVersion, unverified: bool) -> tuple[Provenance, bool]:
    """The stored provenance, if it is the one that the version was registered with, and whether its digest says so."""
    name = f"version {made.version} of {made.project}"
    try:
        content = registry.artifacts.read_bytes(made.run_id, PROVENANCE_ARTIFACT)
    except ArtifactMissing as error:
        raise _unreadable(made, error) from error
    registered = made.tags.get(TAG_PROVENANCE)
    digest = hashlib.sha256(content).hexdigest()
    if registered is None and not unverified:
        raise ReproductionFailed(
            f"{name} has no tag {TAG_PROVENANCE}: it was registered before there was one, and nothing says that the "
            f"code and packages in its {PROVENANCE_ARTIFACT} are those it was made with; read that file and "
            f"{PATCH_ARTIFACT} of run {made.run_id}, then --unverified runs them"
        )
    if registered is not None and registered != digest:
        raise ReproductionFailed(
            f"the provenance of {name} was altered: its SHA-256 is {digest[:12]} where the registered version's tag "
            f"{TAG_PROVENANCE} says {registered[:12]}; restore {PROVENANCE_ARTIFACT} of run {made.run_id}"
        )
    try:
        found = Provenance.from_json(content.decode())
    except ValueError as error:
        raise _unreadable(made, error) from error
    _require_tags(made, found)
    if found.foreign is not None:
        raise ReproductionFailed(
            f"{name} is the ONNX file {found.foreign.file} (SHA-256 {found.foreign.file_sha256[:12]}), submitted by "
            f"{found.foreign.said_by}: it was made elsewhere, and nothing here knows how to make it again"
        )
    if found.script is not None:
        raise ReproductionFailed(
            f"{name} was made by one's own script {found.script.name}, not by a recipe: run it at revision "
            f"{found.code.revision or '(not in git)'} on commit {found.data.commit[:12]} of {found.data.repository} "
            "and compare the weights' digests"
        )
    return found, registered is not None


def _unreadable(made: ModelVersion, error: Exception) -> ReproductionFailed:
    return ReproductionFailed(
        f"version {made.version} of {made.project} cannot be reproduced, its provenance is missing or unreadable "
        f"({str(error).splitlines()[0]}): restore {PROVENANCE_ARTIFACT} of run {made.run_id}; what something "
        "else than VisionOps registered has none"
    )


def _require_tags(made: ModelVersion, found: Provenance) -> None:
    """What the version's other tags say of the record: all that versions without its digest are known by."""
    recorded = {
        TAG_WEIGHTS: found.weights_sha256,
        TAG_MANIFEST: found.data.manifest_digest,
        TAG_COMMIT: found.data.commit,
        TAG_CODE: found.code.digest,
    }
    for tag, value in recorded.items():
        registered = made.tags.get(tag, "nothing")
        if registered != value:
            raise ReproductionFailed(
                f"the provenance of version {made.version} of {made.project} was altered: it says {value[:12]} where "
                f"the registered version's tag {tag} says {registered[:12]}; restore {PROVENANCE_ARTIFACT} of run "
                f"{made.run_id}"
            )


def _patch(registry: Registry, made: ModelVersion) -> bytes | None:
    try:
        return registry.artifacts.read_bytes(made.run_id, PATCH_ARTIFACT)
    except ArtifactMissing:
        return None


def _certificate(version: int, original: Provenance, report: Report) -> Certificate:
    gone, found = report.missing, report.provenance
    if gone is not None:
        return certify_missing(version, original, gone.kind, gone.name, gone.before, gone.after)
    if found is None:
        raise ReproductionFailed("the recorded code answered with neither a model nor a reason")
    if not report.trained:
        return compare_inputs(version, original, found)
    return certify(version, original, found, _intervals(original))


def _intervals(original: Provenance) -> dict[str, tuple[float, float]]:
    """Where the metrics of a statistical reproduction may lie: the 95% interval of the original's accuracy."""
    if original.recipe.reproducibility != "statistical":
        return {}
    accuracy, samples = original.metrics.get("validation_accuracy"), original.data.validation_samples
    return {} if accuracy is None or not samples else {"validation_accuracy": wilson(accuracy, samples)}
