"""A model in a process of its own: one that crashes, loops or leaks takes no other down.

The agent's side of it never loads numpy or ONNX Runtime. Frames go to the process as length and bytes, answers come
back as length and JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from edge import EdgeError
from edge.engines import Engine, from_arguments, to_arguments
from edge.images.bounds import image_limits

_LENGTH = struct.Struct(">Q")
# In place of a length: what is the image like that was answered last?
_MEASURE = 2**64 - 1
# One answer to a decoded image; loading may take longer. A model that does not come back in this time is taken for
# dead.
ANSWER_SECONDS, LOAD_SECONDS = 60.0, 600.0
# Only for a self-test that waits for ever; a busy machine is given its time.
EXAMINE_SECONDS = 1800.0


class RunnerDied(EdgeError, RuntimeError):
    """The process of a model ended, or does not answer. `why` is one word for reports."""

    def __init__(self, why: str, said: str) -> None:
        super().__init__(said)
        self.why = why


class BadImage(EdgeError, ValueError):
    """An image that cannot be decoded, whatever the model."""


class Runner(Protocol):
    """Something that answers by one model."""

    def answer(self, image: bytes) -> dict[str, Any]:
        """What the model says. Raises `BadImage`, `RunnerDied` for whatever is the model's fault, and OSError where
        this machine can decode nothing now."""
        ...

    def measure(self) -> dict[str, Any]:
        """What the inference log has of the image that was answered last, beside the answer. Raises `RunnerDied`, and
        OSError where it cannot be measured."""
        ...

    def close(self) -> None:
        """End it."""
        ...


# A model, its threads, and an engine where it has one.
OpenRunner = Callable[[Path, int, Engine | None], Runner]


class ProcessRunner:
    """A model opened in a process. Raises `RunnerDied` where it cannot be."""

    def __init__(self, model: Path, threads: int = 1, engine: Engine | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edge.runner", str(model), str(threads), *to_arguments(engine)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=str(Path(__file__).resolve().parent.parent),
        )
        try:
            opened = self._read(LOAD_SECONDS)
        except RunnerDied:
            self.close()
            raise
        if "error" in opened:
            self.close()
            raise RunnerDied(opened.get("why", "crash"), opened["error"])
        self.pid = self._process.pid

    def answer(self, image: bytes) -> dict[str, Any]:
        self._ask(_LENGTH.pack(len(image)), image)
        return _answer(self._read(ANSWER_SECONDS + image_limits().wall_seconds))

    def measure(self) -> dict[str, Any]:
        self._ask(_LENGTH.pack(_MEASURE))
        return _answer(self._read(ANSWER_SECONDS))

    def close(self) -> None:
        process = self._process
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        if process.poll() is None:
            process.kill()
        process.wait()

    def _ask(self, *parts: bytes) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            for part in parts:
                stdin.write(part)
            stdin.flush()
        except OSError as error:
            raise RunnerDied("crash", self._how_it_ended()) from error

    def _read(self, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size, deadline))
        return dict(json.loads(self._exactly(length, deadline)))

    def _exactly(self, count: int, deadline: float) -> bytes:
        stdout = self._process.stdout
        assert stdout is not None
        # Not `select`, which knows no descriptor above 1,023.
        arriving = select.poll()
        arriving.register(stdout, select.POLLIN)
        found = b""
        while len(found) < count:
            left = deadline - time.monotonic()
            if left <= 0 or not arriving.poll(left * 1000):
                raise RunnerDied("hangs", "the model does not answer")
            part = os.read(stdout.fileno(), count - len(found))
            if not part:
                raise RunnerDied("crash", self._how_it_ended())
            found += part
        return found

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "the model's process closed its end"
        return f"the model's process ended with {f'signal {-code}' if code < 0 else f'exit code {code}'}"


def examine_in_a_process(
    model: Path,
    golden: Path,
    rules: Mapping[str, Any],
    budget: Mapping[str, Any],
    engine: Engine | None = None,
) -> tuple[str | None, str] | None:
    """`edge.selftest` in its own process: why a file is refused, if it is, and what was measured; None if it died."""
    asked = json.dumps([str(model), str(golden), dict(rules), dict(budget), *to_arguments(engine)])
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edge.selftest", asked],
            capture_output=True,
            timeout=EXAMINE_SECONDS,
            cwd=str(Path(__file__).resolve().parent.parent),
            check=False,
        )
        found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        return None
    return (found[0], str(found[1])) if found is not None else None


class OpenedHere:
    """A model opened in this process, for desks and tests."""

    def __init__(self, model: Path, threads: int = 1, engine: Engine | None = None) -> None:
        from edge.onnx_model import ModelFileError, open_model

        try:
            self._model = Asked(open_model(model, threads, engine=engine))
        except ModelFileError as error:
            raise RunnerDied("crash", str(error)) from error

    def answer(self, image: bytes) -> dict[str, Any]:
        return _answer(self._model.told(image))

    def measure(self) -> dict[str, Any]:
        return _answer(self._model.measured())

    def close(self) -> None:
        """Nothing to end."""


def _answer(told: dict[str, Any]) -> dict[str, Any]:
    if "unreadable" in told:
        raise BadImage(told["unreadable"])
    if "undecoded" in told:
        raise OSError(told["undecoded"])
    if "error" in told:
        raise RunnerDied(told.get("why", "crash"), told["error"])
    return told


class Asked:
    """An opened model, and what it was asked last: answers in words, errors too."""

    def __init__(self, model: Any) -> None:
        self._model, self._last = model, None

    def told(self, image: bytes) -> dict[str, Any]:
        """What the model says of an image."""
        from edge.images.header import UnreadableImage
        from edge.onnx_model import NotFinite

        self._last = None
        try:
            decoded = self._model.decode(image)
        except UnreadableImage as error:
            return {"unreadable": str(error)}
        except Exception as error:  # No fault of the model: it has not seen it.
            return {"undecoded": f"no image can be decoded here: {type(error).__name__}: {error}"[:300]}
        try:
            said, self._last = self._model.answer(*decoded)
            return dict(said)
        except NotFinite as error:
            return {"error": str(error), "why": "not_finite"}
        except Exception as error:  # A model that raises is as bad as one that dies.
            return {"error": f"{type(error).__name__}: {error}"[:300], "why": "crash"}

    def measured(self) -> dict[str, Any]:
        """What the log has of the image that was answered last."""
        if self._last is None:
            return {"undecoded": "no image was answered"}
        try:
            return dict(self._last.measured())
        except Exception as error:  # Nor is that the model's fault.
            return {"undecoded": f"the image cannot be measured: {type(error).__name__}: {error}"[:300]}


def _serve(model: Path, threads: int, engine: Engine | None, requests: IO[bytes], answers: IO[bytes]) -> None:
    from edge.onnx_model import ModelFileError, open_model

    def say(told: dict[str, Any]) -> None:
        content = json.dumps(told).encode()
        answers.write(_LENGTH.pack(len(content)) + content)
        answers.flush()

    try:
        opened = Asked(open_model(model, threads, engine=engine))
    except ModelFileError as error:
        say({"error": str(error), "why": "crash"})
        return
    say({"ready": True})
    while header := requests.read(_LENGTH.size):
        (length,) = _LENGTH.unpack(header)
        say(opened.measured() if length == _MEASURE else opened.told(requests.read(length)))


def main() -> None:
    """Answer until the agent closes its end, or is gone."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What a library prints must not come between two answers.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        _serve(Path(sys.argv[1]), int(sys.argv[2]), from_arguments(sys.argv[3:]), sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
