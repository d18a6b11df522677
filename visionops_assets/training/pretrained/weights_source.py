"""A file of weights fetched from where it is published, Hugging Face's hub, an address, a bucket or a folder; and a
PyTorch file made safetensors.
"""

import errno
import os
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from visionops_assets.common.errors import WeightsError
from visionops_assets.config.recipe import ON_THE_HUB

_SECONDS = (10, 60)
_CONVERSION_SECONDS = 600
_PIECE = 1 << 20
_WHERE = "model.init_weights.uri"
_NO_WAY = (errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH)


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
    """The hub that HF_ENDPOINT names, as a team's mirror; None for Hugging Face's own.

    Raises WeightsError where it is no address.
    """
    named = os.environ.get("HF_ENDPOINT") or None
    if named is not None and not _is_address(named):
        raise WeightsError(
            f"HF_ENDPOINT is {named[:80]!r}: expected the address of a hub, such as https://hub.example.com, or nothing"
        )
    return named


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        # Where the port is none, asking for it raises.
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def revision_on_hub(repository: str) -> str:
    """The commit that a repository's main branch is at now. Raises WeightsError."""
    from huggingface_hub import HfApi

    with _asking_the_hub(f"hf://{repository}", "the hub does not tell of it"):
        return str(HfApi(endpoint=hub_endpoint()).model_info(repository, timeout=_SECONDS[1]).sha)


def _from_hub(uri: str) -> bytes:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    named = ON_THE_HUB.fullmatch(uri)
    if named is None:
        raise WeightsError(f"{_WHERE} {uri}: expected hf://OWNER/NAME@REVISION/FILE")
    repository, file, revision, endpoint = named["repo"], named["file"], named["revision"], hub_endpoint()
    with (
        _asking_the_hub(f"{_WHERE} {uri}", "cannot be read"),
        tempfile.TemporaryDirectory(prefix="visionops-weights-") as folder,
    ):
        # Asked once: the download asks six times, with a line each, whether a hub that is not there is.
        address = hf_hub_url(repository, file, revision=revision, endpoint=endpoint)
        get_hf_file_metadata(address, timeout=_SECONDS[1], endpoint=endpoint)
        # Not into the library's cache in the home: what is kept is in the artifact store.
        got = hf_hub_download(repository, file, revision=revision, local_dir=folder, endpoint=endpoint)
        return Path(got).read_bytes()


@contextmanager
def _asking_the_hub(what: str, otherwise: str) -> Iterator[None]:
    """Tell in one line what the hub's client raises: where nothing answers, the fix, else what it says."""
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import HfHubHTTPError

    # Of httpx or httpx2, by the client's version.
    http_error: type[BaseException] = HfHubHTTPError.__bases__[0]
    try:
        yield
    except (OSError, ValueError, http_error) as error:
        fix = "set HF_ENDPOINT to a hub that answers"
        raise _unreachable(what, hub_endpoint() or ENDPOINT, fix, error) or WeightsError(
            f"{what}: {otherwise} ({first_line(error)})"
        ) from error


def _from_address(uri: str) -> bytes:
    import requests

    try:
        with requests.get(uri, stream=True, timeout=_SECONDS) as answer:
            answer.raise_for_status()
            return b"".join(answer.iter_content(_PIECE))
    except requests.RequestException as error:
        told = _unreachable(f"{_WHERE} {uri}", uri, "", error)
        raise told or _unreadable(uri, first_line(error)) from error


def _unreachable(what: str, address: str, fix: str, error: BaseException) -> WeightsError | None:
    """What to tell where an error comes of a server that did not answer; None where it did."""
    why = None
    cause: BaseException | None = error
    while cause is not None:
        no_answer = isinstance(cause, ConnectionError | TimeoutError | socket.gaierror | ssl.SSLError)
        if no_answer or (isinstance(cause, OSError) and cause.errno in _NO_WAY):
            why = getattr(cause, "strerror", None) or first_line(cause)
        cause = cause.__cause__ or cause.__context__
    if why is None:
        return None
    parts = urlsplit(address)
    server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    ways = ["check the network", *([fix] if fix else []), f"or name a local path or file:// as {_WHERE}"]
    return WeightsError(f"{what}: {server} cannot be reached ({why}): {', '.join(ways)}")


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


def first_line(error: BaseException) -> str:
    """What an error of a library says, on one line."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _unreadable(uri: str, why: str) -> WeightsError:
    return WeightsError(f"{_WHERE} {uri}: cannot be read ({why})")
