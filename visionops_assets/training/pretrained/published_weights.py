"""The weights that are published for a model of the catalogue, pinned as a recipe declares them."""

import hashlib

from resources.error_family import NotFound
from resources.storage import ArtifactStore
from visionops_assets.common.errors import WeightsError
from visionops_assets.config.model_catalogue import catalogued
from visionops_assets.config.recipe import InitWeights
from visionops_assets.training.pretrained.kept_weights import keep
from visionops_assets.training.pretrained.weights_source import (
    as_safetensors,
    fetched,
    revision_on_hub,
)

_FILE = "model.safetensors"


class NoPublishedWeights(NotFound):
    """Nobody publishes weights of a model."""


def fetch_published(name: str, licence: str | None, store: ArtifactStore) -> InitWeights:
    """Fetch a model's published weights as they are now, keep them, and return what pins them.

    `licence` stands in for one that the catalogue does not know. Raises `UnknownModel`, `NoPublishedWeights`,
    WeightsError.
    """
    model = catalogued(name)
    if not model.weights:
        raise NoPublishedWeights(
            f"{name} has no published weights that the catalogue knows: train it from the start, or name a file of its "
            "tensors as model.init_weights"
        )
    under = licence or model.weights_licence
    if not under:
        raise WeightsError(
            f"the licence of the published weights of {name} ({model.weights}) is not stated: look it up, and give it "
            "by --licence"
        )
    uri = model.weights
    if "://" not in uri:
        uri = f"hf://{uri}@{revision_on_hub(uri)}/{_FILE}"
    content, converted_from = fetched(uri), None
    if uri.endswith((".pth", ".pt")):
        converted_from = hashlib.sha256(content).hexdigest()
        content = as_safetensors(content, uri)
    digest = hashlib.sha256(content).hexdigest()
    keep(content, digest, uri, store)
    return InitWeights(uri=uri, sha256=digest, licence=under, converted_from=converted_from)
