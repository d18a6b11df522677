"""What a device installs and how it is started there: distribution, unit and container file against the code."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from resources.home import ROOT

UNIT = ROOT / "deploy" / "edge" / "visionops-edge.service"
CONTAINER = ROOT / "deploy" / "edge" / "Containerfile"
DISTRIBUTION = tomllib.loads((ROOT / "edge" / "pyproject.toml").read_text())


def starts(arguments: list[str]) -> None:
    """These arguments are those of the agent; `--help` ends it before it does anything."""
    done = subprocess.run(
        [sys.executable, "-m", "edge", *arguments, "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--device" in done.stdout and "--state" in done.stdout


def test_the_unit_starts_the_agent_as_it_is() -> None:
    command = re.search(r"^ExecStart=(\S+) (.*)$", UNIT.read_text(), re.MULTILINE)
    assert command is not None
    assert Path(command[1]).name in DISTRIBUTION["project"]["scripts"]
    starts(command[2].split())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(), flags=re.MULTILINE))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_the_container_starts_the_agent_as_it_is() -> None:
    text = CONTAINER.read_text()
    assert ast.literal_eval(re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[0]) == ["visionops-edge"]
    starts(ast.literal_eval(re.findall(r"^CMD (.*)$", text, re.MULTILINE)[0]))
    assert "COPY edge /tmp/edge" in text


def test_the_distribution_is_the_folder_and_names_its_version() -> None:
    from edge import __version__

    assert DISTRIBUTION["tool"]["setuptools"] == {"packages": ["edge"], "package-dir": {"edge": "."}}
    assert DISTRIBUTION["project"]["version"] == __version__
    assert not [file for file in (ROOT / "edge").rglob("*.py") if file.parent != ROOT / "edge"]


def test_the_agent_starts_without_what_it_does_not_need() -> None:
    """Neither numpy nor ONNX Runtime in the process that only watches, nor anything of the product in any."""
    script = (
        "import sys, edge.device, edge.__main__; "
        "print(sorted({'numpy', 'PIL', 'onnxruntime'} & set(sys.modules))); "
        "import edge.runner, edge.selftest, edge.model, edge.decode; "
        "print(sorted(n for n in sys.modules if n.split('.')[0] in "
        "('torch', 'dagster', 'pandas', 'pyarrow', 'visionops', 'visionops_assets', 'resources', 'pydantic')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
