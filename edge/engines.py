"""What a provider of ONNX Runtime compiles of a model for one machine, made before the model answers.

A TensorRT build takes minutes, and belongs to one GPU, driver and runtime. It is made in a process of its own, kept
beside the model by what it was made for, and dropped with the model. The CPU provider compiles nothing. A model
whose engine is missing or cannot be opened answers by the CPU provider meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from edge import machine
from edge.files import Files
from edge.formats import MODEL, Bundle

CPU = "CPUExecutionProvider"
# Only for a build that waits for ever: an hour on a small GPU is no fault.
PREPARE_SECONDS = 4 * 3600.0
_FOLDER = "engines"
# How a provider is told where its engines lie; the others keep none, and are only tried.
# https://onnxruntime.ai/docs/execution-providers/
_CACHES: Mapping[str, Callable[[str], dict[str, str]]] = {
    "TensorrtExecutionProvider": lambda folder: {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": folder,
    },
    "OpenVINOExecutionProvider": lambda folder: {"cache_dir": folder},
}


@dataclass(frozen=True)
class Engine:
    """A provider other than the CPU's, and the folder of what it compiled."""

    provider: str
    folder: Path

    def providers(self) -> list[Any]:
        """As a session of ONNX Runtime takes them."""
        cache = _CACHES.get(self.provider)
        return [(self.provider, cache(str(self.folder)) if cache is not None else {}), CPU]


def to_arguments(engine: Engine | None) -> list[str]:
    """An engine as a process of our own is given it; nothing for the CPU provider."""
    return [engine.provider, str(engine.folder)] if engine is not None else []


def from_arguments(given: Sequence[str]) -> Engine | None:
    """What `to_arguments` said."""
    return Engine(given[0], Path(given[1])) if given else None


class Build(Protocol):
    """A provider at work on a model."""

    def ended(self, seconds: float) -> bool:
        """Whether it ended; waited for, but no longer than that."""
        ...

    def said(self) -> str | None:
        """Of one that ended: why it cannot be compiled, empty where it was; None if its process died."""
        ...

    def close(self) -> None:
        """End it."""
        ...


Prepare = Callable[[Path, Engine], Build]


class Engines:
    """The engines of one device: `engines/<name>.json`, written last, says which folder holds a whole one."""

    def __init__(
        self, files: Files, provider: str, made_for: Callable[[], str] = machine.engine_identity
    ) -> None:
        self._files, self.provider, self._made_for = files, provider, made_for
        self._begun: set[str] = set()

    @property
    def needed(self) -> bool:
        """Whether models are prepared at all."""
        return self.provider != CPU

    def name(self, bundle: Bundle) -> str:
        """Of a model's engine on this machine, with its runtime as it is now."""
        made_for = hashlib.sha256(f"{self.provider}\n{self._made_for()}".encode()).hexdigest()
        return f"{bundle.digest(MODEL)}-{made_for[:16]}"

    def has(self, bundle: Bundle) -> bool:
        """Whether an engine is there, by its record alone; always where none is needed."""
        return not self.needed or self._record(bundle) is not None

    def of(self, bundle: Bundle) -> Engine | None:
        """The engine of a model, held to its digests; None where the CPU provider has to answer."""
        record = self._record(bundle) if self.needed else None
        if record is None:
            return None
        folder = f"{_FOLDER}/{record['folder']}"
        if any(self._files.sha256(f"{folder}/{name}") != sha256 for name, sha256 in record["files"].items()):
            self.drop(bundle)
            return None
        return Engine(self.provider, self._files.path(folder))

    def begin(self, bundle: Bundle, attempt: str) -> Engine:
        """A folder that no other attempt writes to, not even one that outlived its agent."""
        folder = f"{self.name(bundle)}.{attempt}"
        self._begun.add(folder)
        return Engine(self.provider, self._files.folder(f"{_FOLDER}/{folder}"))

    def keep(self, bundle: Bundle, engine: Engine) -> None:
        """What was made is whole: it is durable before its record says so."""
        folder = f"{_FOLDER}/{engine.folder.name}"
        found = self._files.sync_tree(folder)
        record = {
            "folder": engine.folder.name,
            "files": {name: self._files.sha256(f"{folder}/{name}") for name in found},
        }
        self._files.write(f"{_FOLDER}/{self.name(bundle)}.json", json.dumps(record).encode())
        self._begun.discard(engine.folder.name)

    def discard(self, engine: Engine) -> None:
        """What was begun is not to be kept."""
        self._begun.discard(engine.folder.name)
        self._files.remove_tree(f"{_FOLDER}/{engine.folder.name}")

    def drop(self, bundle: Bundle) -> None:
        """An engine cannot be used: it has to be made again."""
        self._files.remove(f"{_FOLDER}/{self.name(bundle)}.json")

    def tidy(self, held: Iterable[Bundle]) -> None:
        """Remove the engines of models that are gone, and of runtimes that are, and what others began."""
        if not self._files.path(_FOLDER).is_dir():
            return
        records = {f"{self.name(each)}.json": self._record(each) for each in held} if self.needed else {}
        folders = {str(record["folder"]) for record in records.values() if record is not None} | self._begun
        for name in self._files.names(_FOLDER):
            if name not in records:
                self._files.remove(f"{_FOLDER}/{name}")
        for name in self._files.folders(_FOLDER):
            if name not in folders:
                self._files.remove_tree(f"{_FOLDER}/{name}")

    def _record(self, bundle: Bundle) -> dict[str, Any] | None:
        content = self._files.read(f"{_FOLDER}/{self.name(bundle)}.json")
        try:
            record = json.loads(content or b"")
            return {"folder": str(record["folder"]), "files": dict(record["files"])}
        except (ValueError, KeyError, TypeError):
            # Not there, or a bad disk: it is made again.
            return None


def tolerated(golden: Mapping[str, Any], engine: Engine | None) -> dict[str, Any]:
    """How far answers may differ: what a manifest says of this provider, else of all."""
    here = (golden.get("providers") or {}).get(engine.provider if engine is not None else CPU, {})
    return {**{name: value for name, value in golden.items() if name != "providers"}, **here}


class ProcessBuild:
    """A provider compiles a model in a process of its own, which ends with this one, however that ends."""

    def __init__(self, model: Path, engine: Engine) -> None:
        # Closed when this process is gone: no build outlives its agent.
        ours, self._held = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edge.engines", str(model), *to_arguments(engine)],
                stdin=ours,
                stdout=subprocess.PIPE,
                cwd=str(Path(__file__).resolve().parent.parent),
            )
        except OSError:
            os.close(self._held)
            raise
        finally:
            os.close(ours)
        self._until = monotonic() + PREPARE_SECONDS
        self._told: bytes | None = None

    def ended(self, seconds: float) -> bool:
        """As `Build`. What it says fits into the pipe."""
        if self._told is None:
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                if monotonic() < self._until:
                    return False
            self._end()
        return True

    def said(self) -> str | None:
        """As `Build`."""
        try:
            return (
                str(json.loads((self._told or b"").splitlines()[-1]))
                if self._process.returncode == 0
                else None
            )
        except (ValueError, IndexError):
            return None

    def close(self) -> None:
        """As `Build`."""
        if self._told is None:
            self._end()

    def _end(self) -> None:
        os.close(self._held)
        self._process.kill()
        self._told, _ = self._process.communicate()


def compiled(model: Path, engine: Engine) -> str:
    """Compile in this process: why it cannot be, or nothing."""
    import numpy as np

    from edge.onnx_model import open_model

    try:
        opened = open_model(model, engine=engine)
        # Some compile at the first image of a size, and one image is what a device asks for.
        opened.run(np.zeros((1, opened.height, opened.width, opened.channels), np.uint8))
    except Exception as error:  # Whatever a provider raises.
        return f"{error}"[:300] or type(error).__name__
    return ""


def _end_with_the_agent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def main() -> None:
    """Compile, and say as JSON why that cannot be."""
    threading.Thread(target=_end_with_the_agent, daemon=True).start()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    said = compiled(Path(sys.argv[1]), Engine(sys.argv[2], Path(sys.argv[3])))
    answers.write(json.dumps(said) + "\n")
    answers.flush()
    # Not past the thread that waits for the agent: the interpreter would wait for its lock on stdin.
    os._exit(0)


if __name__ == "__main__":
    main()
