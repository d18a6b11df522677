"""A stranger's ONNX file tried in another process, which has the file's handle, little memory and no secrets: read, put
into the form of what ships, run. What comes back is what may be recorded.
"""

import contextlib
import json
import math
import os
import signal
import socket
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from edge.images import bounds as limited_process
from resources.escaping import one_line
from visionops_assets.training.foreign.onnx_declaration import Declaration, ForeignFileRefused

MOST_BYTES = 1 << 30
_SECONDS, _SECONDS_A_BYTE = 120, 1 / (2 << 20)
_WALL_TIMES_CPU = 5
_START_WITHIN = 120.0
_MEMORY, _TIMES_ITS_SIZE = 4 << 30, 8
_TOGETHER = (1, 2, 5)
TOLERANCE = 1e-4
_SUM_TOLERANCE = 1e-3
_READY = b"+"


@dataclass(frozen=True)
class Tried:
    """What a file is: its size in pixels and channels, how it answers the same image alone and beside others (the
    largest difference of probabilities or scores, on `images`), and `content`, what ships of it."""

    height: int
    width: int
    channels: int
    resize: str
    images: int
    difference: float
    content: bytes

    @property
    def agrees(self) -> bool:
        """Whether an image is answered alike whatever comes with it."""
        return self.difference <= TOLERANCE


def try_file(file: int, said: Declaration) -> Tried:
    """Try the file of which `file` is the handle. Raises `ForeignFileRefused`, OSError where no process starts."""
    size = os.fstat(file).st_size
    if size > MOST_BYTES:
        raise ForeignFileRefused(f"it has {size >> 20} MiB: at most {MOST_BYTES >> 20} MiB are taken")
    seconds, memory = math.ceil(_SECONDS + size * _SECONDS_A_BYTE), _MEMORY + _TIMES_ITS_SIZE * size
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            code = f"from {__name__} import main; main({theirs.fileno()})"
            process = limited_process.start_process(code, theirs.fileno(), {})
        try:
            connection = Connection(os.dup(ours.fileno()))
            with contextlib.closing(connection):
                if not connection.poll(_START_WITHIN) or connection.recv_bytes(1) != _READY:
                    raise OSError("the process that tries ONNX files could not be started")
                job = {"said": said.model_dump(mode="json"), "seconds": seconds, "memory": memory}
                socket.send_fds(ours, [json.dumps(job).encode()], [file])
                if not connection.poll(_WALL_TIMES_CPU * seconds):
                    raise ForeignFileRefused(f"trying it took more than {_WALL_TIMES_CPU * seconds} s")
                told = json.loads(connection.recv_bytes(1 << 16))
                if "refused" in told:
                    # Names in it are a stranger's.
                    raise ForeignFileRefused(one_line(told["refused"]))
                return Tried(**told, content=connection.recv_bytes(size + (64 << 20)))
        except (EOFError, ConnectionError) as error:
            raise ForeignFileRefused(
                f"it ends the process that tries it, which may take {memory >> 20} MiB and {seconds} s of processor "
                "time: export it smaller, or without what asks for more"
            ) from error
        finally:
            process.kill()
            process.wait()


def main(descriptor: int) -> None:
    """In the process itself: try one file and tell."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Loaded before anything of the file's is seen, and before memory is counted.
    import onnx
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    ours = socket.socket(fileno=descriptor)
    connection = Connection(os.dup(descriptor))
    connection.send_bytes(_READY)
    told, files, *_ = socket.recv_fds(ours, 1 << 20, 1)
    job = json.loads(told)
    _limit(job["seconds"], job["memory"])
    try:
        with os.fdopen(files[0], "rb") as stream:
            found, content = try_here(stream.read(MOST_BYTES + 1), Declaration.model_validate(job["said"]))
    except ForeignFileRefused as error:
        connection.send_bytes(json.dumps({"refused": str(error)[:2000]}).encode())
        return
    except (onnx.checker.ValidationError, ValueError) as error:
        said = f"its graph does not hold together ({_first_line(error)}): export it again"
        connection.send_bytes(json.dumps({"refused": said}).encode())
        return
    connection.send_bytes(json.dumps(found).encode())
    connection.send_bytes(content)


def _limit(seconds: int, memory: int) -> None:
    import resource

    most = {resource.RLIMIT_CPU: seconds, resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0}
    with contextlib.suppress(OSError, ValueError):
        limited_process.hold_process_to({**limited_process.limit_of_memory(memory), **most})


def try_here(content: bytes, said: Declaration) -> tuple[dict[str, Any], bytes]:
    """Everything, in this process, which the content may end: what is told of the file, and what ships of it.

    Raises `ForeignFileRefused`, and ValueError for a graph that does not hold together.
    """
    from visionops_assets.training.foreign.graph_reading import (
        read_graph,
        refuse_unusable_size,
        taken_images,
    )
    from visionops_assets.training.foreign.graph_wrapping import wrapped

    model = read_graph(content)
    if said.convention == "visionops":
        ships, spec = content, _our_own(content, said)
        taken = taken_images(model, spec["channels"])
        if (taken.height, taken.width) != (spec["height"], spec["width"]) or taken.layout != "NHWC":
            raise ForeignFileRefused("its input is not what its `visionops.input` says: export it again")
    else:
        if len(model.graph.output) != 1:
            named = ", ".join(each.name for each in model.graph.output) or "none"
            raise ForeignFileRefused(
                f"it has {len(model.graph.output)} outputs ({named}), convention {said.convention} takes one: export "
                "it with that output alone"
            )
        taken = taken_images(model, said.channels)
        refuse_unusable_size(taken)
        whole = wrapped(model, taken, said, _shape_of_output(content, taken))
        import onnx

        onnx.checker.check_model(whole)
        ships = whole.SerializeToString(deterministic=True)
    difference, images = _alike(ships, said, (taken.height, taken.width, taken.channels))
    resize = spec["resize"] if said.convention == "visionops" else said.resize
    told = {"height": taken.height, "width": taken.width, "channels": taken.channels, "resize": resize}
    return {**told, "images": images, "difference": difference}, ships


def _our_own(content: bytes, said: Declaration) -> dict[str, Any]:
    """What a file of format 1 says of its input. Raises `ForeignFileRefused` where it is not of this project."""
    described = _session(content).get_modelmeta().custom_metadata_map
    try:
        spec = json.loads(described["visionops.input"])
        found = {name: int(spec[name]) for name in ("height", "width", "channels")}
        classes, task = json.loads(described["visionops.classes"]), described["visionops.task"]
        is_ours = described["visionops.format"] == "1" and spec["resize"] in ("fit", "stretch")
    except (KeyError, TypeError, ValueError) as error:
        raise ForeignFileRefused(
            f"it is no file of the convention visionops, whose metadata say how it is used ({error!r}): name another "
            "convention"
        ) from error
    if not is_ours or task != said.task or sorted(map(str, classes)) != sorted(said.classes):
        raise ForeignFileRefused(
            f"it is for {task} of {', '.join(map(str, classes))[:200]}, the project for {said.task} of "
            f"{', '.join(said.classes)}"
        )
    return {**found, "resize": str(spec["resize"])}


def _session(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no other base.
        raise ForeignFileRefused(
            f"ONNX Runtime cannot open it ({_first_line(error)}): export it again"
        ) from error


def _run(session: Any, outputs: list[str] | None, images: Any) -> list[Any]:
    try:
        found: list[Any] = session.run(outputs, {session.get_inputs()[0].name: images})
    except Exception as error:  # As above.
        raise ForeignFileRefused(
            f"ONNX Runtime cannot run it on {len(images)} image(s) together ({_first_line(error)}): export it for any "
            "number of images"
        ) from error
    return found


def _shape_of_output(content: bytes, taken: Any) -> tuple[int, ...]:
    """The shape of the one output for two images."""
    import numpy as np
    import onnx

    sides = (taken.channels, taken.height, taken.width)
    shape = (2, *sides) if taken.layout == "NCHW" else (2, *sides[1:], sides[0])
    zeros = np.zeros(shape, onnx.helper.tensor_dtype_to_np_dtype(taken.element))
    (found,) = _run(_session(content), None, zeros)
    answered = tuple(map(int, np.shape(found)))
    if not answered or answered[0] != 2:
        raise ForeignFileRefused(
            f"it gives {list(answered)} for two images: its first dimension should be the number of images; export it "
            "for any number"
        )
    return answered


def _alike(content: bytes, said: Declaration, size: tuple[int, int, int]) -> tuple[float, int]:
    """How much answers differ, for the same images alone and together, and again; and for how many images.

    Raises `ForeignFileRefused` for answers that are none.
    """
    import numpy as np

    from visionops_assets.inference.inference_task import inference_task

    session, outputs = _session(content), list(inference_task(said.task).outputs)
    there = [each.name for each in session.get_outputs()]
    if missing := [name for name in outputs if name not in there]:
        raise ForeignFileRefused(
            f"it has no output {', '.join(missing)}, which {said.task} needs: export it again"
        )
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (max(_TOGETHER) - 2, *size), dtype=np.uint8)
    images = np.concatenate([np.zeros((1, *size), np.uint8), np.full((1, *size), 255, np.uint8), noise])
    compared = "probabilities" if "probabilities" in outputs else "scores"
    alone = [_run(session, outputs, images[row : row + 1]) for row in range(len(images))]
    expected = [np.concatenate([each[at] for each in alone]) for at in range(len(outputs))]
    largest = 0.0
    for number in (*_TOGETHER, max(_TOGETHER)):
        found = _run(session, outputs, images[:number])
        for name, one, other in zip(outputs, found, expected, strict=True):
            if one.shape != other[:number].shape or not np.isfinite(one).all():
                raise ForeignFileRefused(
                    f"its {name} are not as many finite numbers for each image: export it so that they are"
                )
            if name == compared:
                largest = max(largest, float(np.abs(np.sort(one) - np.sort(other[:number])).max(initial=0.0)))
    _refuse_no_answers(dict(zip(outputs, expected, strict=True)), said)
    return largest, len(images)


def _refuse_no_answers(found: dict[str, Any], said: Declaration) -> None:
    """Raise `ForeignFileRefused` for numbers that mean nothing."""
    import numpy as np

    from edge.onnx_model import unknown_class

    if "probabilities" in found:
        sums = found["probabilities"].sum(axis=1)
        if found["probabilities"].shape[1] != len(said.classes) or np.abs(sums - 1).max() > _SUM_TOLERANCE:
            raise ForeignFileRefused(
                f"its probabilities are none of {len(said.classes)} classes that sum to 1: export it again"
            )
    if "scores" in found:
        low, high = float(found["scores"].min(initial=0.0)), float(found["scores"].max(initial=0.0))
        if low < 0 or high > 1:
            raise ForeignFileRefused(
                f"its scores go from {low:.3g} to {high:.3g}, convention {said.convention} takes 0 to 1: export it "
                "with its sigmoid"
            )
        if (foreign := unknown_class(said.classes, found["scores"], found["labels"])) is not None:
            raise ForeignFileRefused(f"it {foreign}: declare the classes that it was made for")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
