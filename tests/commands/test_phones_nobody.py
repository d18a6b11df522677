"""No command tells anybody of this machine, its user or its data, or leaves files outside of VISIONOPS_HOME."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from resources import environ, home
from tests.world import CLASSES, copied_world, write_batch

PYTHON = sys.executable
VISIONOPS = [PYTHON, "-m", "visionops"]
# Nobody has these addresses: whoever uses a proxy, or looks up a name, is seen to try.
NOWHERE = "http://192.0.2.1:3128"


def unshared() -> list[str] | None:
    """How a process of this user gets a network of its own; None where it may not."""
    for command in (["unshare", "--net"], ["unshare", "--net", "--map-root-user"]):
        try:
            if subprocess.run([*command, "true"], capture_output=True).returncode == 0:
                return command
        except FileNotFoundError:
            return None
    return None


@dataclass(frozen=True)
class Alone:
    """A user who has just come to this machine, which reaches nobody."""

    root: Path
    prefix: list[str] | None

    @property
    def user(self) -> Path:
        return self.root / "user"

    @property
    def scratch(self) -> Path:
        return self.root / "scratch"

    @property
    def visionops(self) -> Path:
        return self.root / "visionops"

    def run(self, *commands: list[str], **environment: str) -> list[tuple[int, int, str]]:
        """Exit code, packets that found no way, and output of each."""
        for folder in (self.user, self.scratch):
            folder.mkdir(exist_ok=True)
        asked, report = self.root / "commands.json", self.root / "report.json"
        asked.write_text(json.dumps(commands))
        given = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.user),
            "TMPDIR": str(self.scratch),
            "VISIONOPS_HOME": str(self.visionops),
            "VISIONOPS_PROJECTS": str(self.root / "projects"),
            "PYTHONPATH": str(home.ROOT),
            "HTTPS_PROXY": NOWHERE,
            "https_proxy": NOWHERE,
            "HTTP_PROXY": NOWHERE,
            "http_proxy": NOWHERE,
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            **environment,
        }
        script = str(Path(__file__).with_name("alone.py"))
        done = subprocess.run(
            [
                *(self.prefix or []),
                PYTHON,
                script,
                "network" if self.prefix else "proxy",
                str(report),
                str(asked),
            ],
            env=given,
            cwd=self.root,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return [tuple(each) for each in json.loads(report.read_text())]

    def left_behind(self) -> list[str]:
        """Files outside of VISIONOPS_HOME."""
        return [
            str(path.relative_to(self.root))
            for folder in (self.user, self.scratch)
            for path in folder.rglob("*")
            if not path.is_dir()
        ]


@pytest.fixture
def alone(tmp_path: Path) -> Alone:
    return Alone(tmp_path, unshared())


def stop_lakefs(alone: Alone) -> list[str]:
    """The command that ends the embedded server, which would outlive its network."""
    code = "import sys; from pathlib import Path; from lakefs_local import discovery; discovery.stop(Path(sys.argv[1]))"
    return [PYTHON, "-c", code, str(alone.visionops / "lakefs")]


@pytest.mark.parametrize("network", [True, False])
def test_what_is_tried_is_seen(tmp_path: Path, network: bool):
    alone = Alone(tmp_path, unshared() if network else None)
    connect = "import socket; s = socket.socket(); s.settimeout(1); s.connect_ex(('93.184.216.34', 443))"
    fetch = "import httpx\ntry: httpx.get('https://telemetry.example.com')\nexcept httpx.HTTPError: pass"
    local = "import socket; socket.create_server(('127.0.0.1', 0)).close()"
    found = alone.run([PYTHON, "-c", connect], [PYTHON, "-c", fetch], [PYTHON, "-c", local])
    assert [code for code, _, _ in found] == [0, 0, 0], found
    # Who asks no proxy is seen in a network of its own only.
    assert [tried > 0 for _, tried, _ in found] == [alone.prefix is not None, True, False]


@pytest.mark.slow
def test_a_prediction_reaches_nobody_and_leaves_nothing(alone: Alone, promoted_template: Path):
    with copied_world(promoted_template, alone.visionops) as world:
        project = world.project
    folder = alone.root / "projects"
    folder.mkdir()
    content = project.model_dump(mode="json", exclude_none=True)
    (folder / "shapes.yaml").write_text(json.dumps(content))
    images = write_batch(alone.root / "images", len(CLASSES), seed=9)
    commands = [
        [*VISIONOPS, "predict", "shapes", str(images / "0000.png"), "--log"],
        stop_lakefs(alone),
    ]
    found = alone.run(*commands)
    assert [code for code, _, _ in found] == [0, 0], found
    assert [tried for _, tried, _ in found] == [0, 0], found
    assert alone.left_behind() == []


@pytest.mark.stated
def test_the_demo_and_every_look_at_it_reach_nobody_and_leave_nothing(alone: Alone):
    commands = [
        [*VISIONOPS, "demo", "--days", "2"],
        [*VISIONOPS, "train", "digits"],
        [*VISIONOPS, "tick"],
        [*VISIONOPS, "status", "digits"],
        [*VISIONOPS, "why", "digits"],
        [*VISIONOPS, "compare", "digits"],
        [*VISIONOPS, "doctor"],
        stop_lakefs(alone),
    ]
    found = alone.run(*commands, VISIONOPS_PROJECTS=str(home.ROOT / "projects"), VISIONOPS_ACTOR="ada")
    assert [code for code, _, _ in found] == [0] * len(commands), found
    assert [tried for _, tried, _ in found] == [0] * len(commands), found
    assert alone.left_behind() == []


def test_every_switch_is_thrown_whoever_loads_us_and_one_that_is_set_stays():
    code = (
        "import json, os, resources; from resources.environ import SWITCHES, telemetry_left_on\n"
        "print(json.dumps([{name: os.environ.get(name) for name in SWITCHES}, telemetry_left_on()]))"
    )
    for given, left in (({}, []), ({"ORT_DISABLE_TELEMETRY": "0"}, ["ORT_DISABLE_TELEMETRY"])):
        done = subprocess.run(
            [PYTHON, "-c", code], cwd=home.ROOT, env={"PATH": "", **given}, capture_output=True, text=True
        )
        assert json.loads(done.stdout) == [{**environ.SWITCHES, **given}, left], done.stderr


def test_no_and_off_mean_the_same_however_they_are_written():
    other = {"DO_NOT_TRACK": "true", "WANDB_ERROR_REPORTING": "False", "RAY_USAGE_STATS_ENABLED": "no"}
    assert environ.telemetry_left_on({**environ.SWITCHES, **other}) == []
    assert environ.telemetry_left_on({**environ.SWITCHES, "DO_NOT_TRACK": ""}) == ["DO_NOT_TRACK"]


def test_the_image_throws_every_switch_too():
    image = (home.ROOT / "deploy" / "Dockerfile").read_text()
    given = dict(re.findall(r"^(?:ENV| {3}) (\w+)=(\S+)", image, re.MULTILINE))
    assert {name: given.get(name) for name in environ.SWITCHES} == environ.SWITCHES
