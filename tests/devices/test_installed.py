"""What a device installs and how it is started there: distribution, unit and container file against the code."""

import ast
import json
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


# Of the reference of Containerfiles; those that nobody needs here would only be slips.
INSTRUCTIONS = {
    "FROM",
    "ARG",
    "ENV",
    "COPY",
    "RUN",
    "USER",
    "VOLUME",
    "WORKDIR",
    "ENTRYPOINT",
    "CMD",
    "LABEL",
}


def instructions() -> list[tuple[str, str]]:
    """The container file as a builder reads it: comments out, continued lines joined."""
    lines = [line for line in CONTAINER.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in joined.splitlines() if line.strip()]


def test_a_builder_can_read_the_container_file() -> None:
    read = instructions()
    assert read[0][0] == "FROM" and {name for name, _ in read} <= INSTRUCTIONS
    for name, given in read:
        assert given.strip(), name
        if name in ("ENTRYPOINT", "CMD"):
            assert all(isinstance(each, str) for each in json.loads(given))
        elif name == "COPY":
            assert all((ROOT / source).exists() for source in given.split()[:-1]), given
        elif name == "RUN":
            done = subprocess.run(["sh", "-n", "-c", given], capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, ""), given
    # Whoever it runs as is made before, and owns what is written.
    user = next(given for name, given in read if name == "USER")
    assert any(name == "RUN" and f"useradd --uid 10001 {user}" in given for name, given in read)
    names = [name for name, _ in read]
    assert names.index("USER") > max(at for at, name in enumerate(names) if name == "RUN")
    volume = next(given for name, given in read if name == "VOLUME")
    assert any(f"chown {user} {volume}" in given for name, given in read if name == "RUN")


def test_the_agent_installs_what_it_imports_and_works_without_the_rest() -> None:
    """In a process in which nothing can be imported but what the distribution names, and the standard library."""
    script = (
        "import sys\n"
        "class Only:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('imagecodecs', 'torch', 'dagster', 'pandas', 'pyarrow', 'onnx', 'pydantic', 'scipy'):\n"
        "            raise ImportError(f'{name} is not on a device')\n"
        "sys.meta_path.insert(0, Only())\n"
        "import io; from PIL import Image; from edge.images.decode import Target, decode_here, header_here\n"
        "from edge.images.bounds import image_limits\n"
        "import edge.device, edge.__main__, edge.selftest, edge.onnx_model, edge.outbox\n"
        "for form in ('PNG', 'JPEG', 'BMP', 'WEBP', 'TIFF', 'GIF'):\n"
        "    buffer = io.BytesIO(); Image.new('RGB', (40, 30), 'red').save(buffer, form)\n"
        "    header = header_here(buffer.getvalue(), form, image_limits())\n"
        "    assert decode_here(buffer.getvalue(), form, header, Target(8, 8), 3).shape == (8, 8, 3)\n"
        "print('decoded')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout == "decoded\n", done.stderr


def test_the_distribution_is_the_folder_and_names_its_version() -> None:
    from edge import __version__

    assert DISTRIBUTION["tool"]["setuptools"] == {
        "packages": ["edge", "edge.images"],
        "package-dir": {"edge": ".", "edge.images": "images"},
    }
    assert DISTRIBUTION["project"]["version"] == __version__
    # `pip install ./edge` leaves its `build` there.
    below = [file.relative_to(ROOT / "edge").parts for file in (ROOT / "edge").rglob("*.py")]
    assert {parts[0] for parts in below if len(parts) > 1} <= {"build", "images"}


def test_the_agent_starts_without_what_it_does_not_need() -> None:
    """Neither numpy nor ONNX Runtime in the process that only watches, nor anything of the product in any."""
    script = (
        "import sys, edge.device, edge.__main__; "
        "print(sorted({'numpy', 'PIL', 'onnxruntime'} & set(sys.modules))); "
        "import edge.runner, edge.selftest, edge.onnx_model, edge.images.decode; "
        "print(sorted(n for n in sys.modules if n.split('.')[0] in "
        "('torch', 'dagster', 'pandas', 'pyarrow', 'visionops', 'visionops_assets', 'resources', 'pydantic')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
