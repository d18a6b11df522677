"""The process that trains again: the recorded code and packages, this machine, and no state of the caller's."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from resources import home
from resources.lakefs import LakeFSResource
from visionops_assets.reproduction.exchange import REPORT, REQUEST, Report, Request
from visionops_assets.training import hardware

MODULE = "visionops_assets.reproduction.retrain"
# Chosen anew, for the recorded hardware.
_KERNELS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")
_SHOWN_LINES = 3


class ReproductionFailed(RuntimeError):
    """A version cannot even be tried: it is not ours, its record was altered, or the training broke off."""


def ask(
    request: Request,
    folder: Path,
    *,
    python: str,
    sources: Path,
    packages: Path | None,
    lakefs: LakeFSResource,
    say: Callable[[str], None],
) -> Report:
    """Let the recorded code carry out a request in `folder`. Raises `ReproductionFailed` with its last words."""
    # The embedded server is started by this code, not by that of then.
    lakefs.address()
    (folder / REQUEST).write_text(request.model_dump_json(indent=1))
    command = [python, "-m", MODULE, str(folder)]
    environment = environment_of(request.original.hardware, sources, packages, lakefs, os.environ)
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, cwd=sources, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            for line in process.stdout or ():
                say(line.rstrip())
        except BaseException:
            process.kill()
            raise
        status = process.wait()
        errors.seek(0)
        lines = [line for line in errors.read().splitlines() if line.strip()]
    # The report appears whole or not at all. A native library may still abort while Python takes it down.
    if not (folder / REPORT).exists():
        said = " ".join(lines[-_SHOWN_LINES:]) or "it said nothing"
        raise ReproductionFailed(
            f"the process that makes the version again stopped with status {status}: {said}"
        )
    return Report.model_validate_json((folder / REPORT).read_text())


def environment_of(
    recorded_hardware: Mapping[str, str],
    sources: Path,
    packages: Path | None,
    lakefs: LakeFSResource,
    present: Mapping[str, str],
) -> dict[str, str]:
    """The environment of the clean process: the caller's, less what could reach into the training."""
    kept = {
        name: value
        for name, value in present.items()
        if name not in _KERNELS and not name.startswith("VISIONOPS_")
    }
    # Foreign model code may lie on the caller's path; this project's must come from `sources`.
    others = [path for path in present.get("PYTHONPATH", "").split(os.pathsep) if path and not _is_ours(path)]
    path = [str(sources), *([str(packages)] if packages is not None else []), *others]
    addresses = {
        "LAKEFS_ENDPOINT": lakefs.endpoint,
        "LAKEFS_ACCESS_KEY_ID": lakefs.access_key_id,
        "LAKEFS_SECRET_ACCESS_KEY": lakefs.secret_access_key,
    }
    return {
        **kept,
        **{name: value for name, value in addresses.items() if value},
        "VISIONOPS_HOME": str(home.home()),
        "PYTHONPATH": os.pathsep.join(path),
        **hardware.kernel_settings(recorded_hardware),
    }


def _is_ours(path: str) -> bool:
    return (Path(path) / "visionops_assets").is_dir()
