"""A file of weights fetched from where it is published, Hugging Face's hub, an address, a bucket or a folder; and a
PyTorch file made safetensors.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from visionops_assets.common.errors import WeightsError

_HUB = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)@(?P<revision>[0-9a-f]{40})/(?P<file>.+)")
_SECONDS = (10, 60)
_CONVERSION_SECONDS = 600
_PIECE = 1 << 20
_WHERE = "model.init_weights.uri"


def fetched(uri: str) -> bytes:
    """The bytes at an address. Raises WeightsError naming it and what answered."""
    if uri.startswith("hf://"):
        return _from_hub(uri)
    if uri.startswith(("https://", "http://")):
        return _from_address(uri)
    from upath import UPath

    try:
        return UPath(uri).read_bytes()
    except OSError as error:
        raise _unreadable(uri, error.strerror or str(error)) from error


def hub_endpoint() -> str | None:
    """The hub that HF_ENDPOINT names, as a team's mirror; None for Hugging Face's own."""
    return os.environ.get("HF_ENDPOINT") or None


def _from_hub(uri: str) -> bytes:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    named = _HUB.fullmatch(uri)
    if named is None:
        raise WeightsError(f"{_WHERE} {uri}: expected hf://OWNER/NAME@REVISION/FILE")
    with tempfile.TemporaryDirectory(prefix="visionops-weights-") as folder:
        try:
            file = hf_hub_download(
                named["repo"],
                named["file"],
                revision=named["revision"],
                # Not the library's cache in the home: what is kept is in the artifact store.
                local_dir=folder,
                endpoint=hub_endpoint(),
            )
            return Path(file).read_bytes()
        except (OSError, ValueError, HFValidationError) as error:
            raise _unreadable(uri, first_line(error)) from error


def _from_address(uri: str) -> bytes:
    import requests

    try:
        with requests.get(uri, stream=True, timeout=_SECONDS) as answer:
            answer.raise_for_status()
            return b"".join(answer.iter_content(_PIECE))
    except requests.RequestException as error:
        raise _unreadable(uri, first_line(error)) from error


def as_safetensors(content: bytes, uri: str) -> bytes:
    """The tensors of a PyTorch file as a safetensors file: equal tensors give equal bytes.

    Raises WeightsError where the file holds more than tensors and plain values.
    """
    with tempfile.TemporaryDirectory(prefix="visionops-weights-") as folder:
        source, target = Path(folder) / "start.pth", Path(folder) / "start.safetensors"
        source.write_bytes(content)
        command = [sys.executable, "-I", str(Path(__file__).with_name("pickled_weights.py"))]
        try:
            done = subprocess.run(
                [*command, str(source), str(target)],
                # What the file says reaches no secret of ours.
                env={"PATH": os.environ.get("PATH", os.defpath)},
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=_CONVERSION_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise WeightsError(f"{_WHERE} {uri}: converting it took over {_CONVERSION_SECONDS} s") from error
        if done.returncode != 0 or not target.is_file():
            said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            message = next((line for line in said if "Error" in line), said[-1] if said else "no word")
            raise WeightsError(
                f"{_WHERE} {uri}: its tensors cannot be read without running what else it holds ({message}): name a "
                "safetensors file"
            )
        return target.read_bytes()


def first_line(error: Exception) -> str:
    """What an error of a library says, on one line."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _unreadable(uri: str, why: str) -> WeightsError:
    return WeightsError(f"{_WHERE} {uri}: cannot be read ({why})")
