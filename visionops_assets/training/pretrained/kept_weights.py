"""Weights to start from as the artifact store keeps them: fetched once, held to their digest at each use. Who makes a
version again needs neither the hub nor the address they came from.
"""

import hashlib
from pathlib import Path

from resources.storage import ArtifactStore
from visionops_assets.common.errors import WeightsError
from visionops_assets.config.recipe import InitWeights
from visionops_assets.training.model_files import tensors_in
from visionops_assets.training.pretrained.weights_source import as_safetensors, fetched


def key_of(sha256: str) -> str:
    """Where weights of a digest are kept in the artifact store."""
    return f"weights/{sha256}.safetensors"


def kept(declared: InitWeights, store: ArtifactStore) -> bytes:
    """The safetensors file that a recipe declares, from the store, or fetched and kept there.

    Raises WeightsError where it cannot be had or is not what was declared, `ArtifactDamaged` where the store's copy is.
    """
    key = key_of(declared.sha256)
    if store.exists(key):
        content = store.read(key)
        if hashlib.sha256(content).hexdigest() != declared.sha256:
            raise store.damaged(key, "its SHA-256 is another")
        return content
    content = fetched(declared.uri)
    if declared.converted_from is not None:
        found = hashlib.sha256(content).hexdigest()
        if found != declared.converted_from:
            raise WeightsError(
                f"model.init_weights {declared.uri} was altered: its SHA-256 is {found}, converted_from says "
                f"{declared.converted_from}; it was not opened"
            )
        content = as_safetensors(content, declared.uri)
    keep(content, declared.sha256, declared.uri, store)
    return content


def keep(content: bytes, sha256: str, uri: str, store: ArtifactStore) -> None:
    """Keep a safetensors file by its digest. Raises WeightsError for what is none, or has another digest."""
    tensors_in(content, sha256, uri)
    store.write_once(key_of(sha256), content)


def local_weights(declared: InitWeights | None, store: ArtifactStore, folder: Path) -> Path | None:
    """A verified copy of declared weights in a folder, None where none are declared. Raises what `kept` raises."""
    if declared is None:
        return None
    content = kept(declared, store)
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / "init_weights.safetensors"
    copy.write_bytes(content)
    return copy
