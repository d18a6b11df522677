"""What depends on what, and how little the code location loads."""

import ast
import functools
import json
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from resources.home import ROOT
from visionops_assets.shells import unstable_dagster
from visionops_assets.tasks.task_registry import names

# Each may import what stands to its right of it in this order, itself, and what a device has of the product.
ORDER = ("visionops", "definitions", "sensors", "visionops_assets", "resources")
ALONE = ("lakefs_local", "edge", "webserver")
# What all may import, the embedded server too: how a server meets its clients.
FOR_ALL = ("webserver",)
# What a device installs: its distribution names these, and a device has room for no more.
OF_A_DEVICE = {"numpy", "PIL", "simplejpeg", "onnxruntime", "tuf", "cryptography", "urllib3", "edge"}
# What makes it faster where there is room: too large to be needed.
WELCOME_ON_A_DEVICE = {"imagecodecs"}
# What stages have in common, and the stages: each may import those before it.
ROOMS = ("common", "tasks", "config", "images", "champions", "inference", "pages", "shells")
STAGES = (
    "dataset",
    "training",
    "experiments",
    "evaluation",
    "promotion",
    "reproduction",
    "monitoring",
    "rollout",
    "delivery",
)
HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "yolox",
    "lightning",
    "mlflow",
    "evidently",
    "onnxruntime",
    "onnx",
    "sklearn",
    "matplotlib",
    "pandas",
    "pyarrow",
    "scipy.stats",
    "dvc",
    "wandb",
)
# The embedded server is started where no lakeFS is configured: the one arrow that leaves the order.
STARTS_LAKEFS = {
    "resources/lakefs/connection.py",
    "visionops/cli/up.py",
    "visionops/diagnosis/disks_and_clock.py",
    "visionops/diagnosis/servers.py",
}


def sources() -> Iterator[tuple[str, list[tuple[str, ast.stmt]]]]:
    """Every module of ours by path, with what it imports."""
    for top in (*ORDER, *ALONE):
        for file in [ROOT / f"{top}.py", *sorted((ROOT / top).rglob("*.py"))]:
            if file.is_file():
                yield file.relative_to(ROOT).as_posix(), imports_of(file)


@functools.cache
def imports_of(file: Path) -> list[tuple[str, ast.stmt]]:
    """Parsing all modules takes two seconds, and most of these tests ask for it."""
    return list(imports(ast.parse(file.read_text())))


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)


def top_of(name: str) -> str:
    return name.removesuffix(".py").replace("/", ".").partition(".")[0]


def test_arrows_point_one_way():
    wrong = []
    for path, found in sources():
        here = top_of(path)
        for name, _ in found:
            there = top_of(name)
            if there not in (*ORDER, *ALONE) or there == here or there in FOR_ALL:
                continue
            allowed = there in ORDER[ORDER.index(here) :] if here in ORDER and there in ORDER else False
            allowed |= here in ORDER and there == "edge"
            if not allowed and not (there == "lakefs_local" and path in STARTS_LAKEFS):
                wrong.append(f"{path} imports {name}")
    assert not wrong


def test_a_room_imports_earlier_rooms_only():
    order = (*ROOMS, *STAGES)
    wrong = []
    for path, found in sources():
        parts = path.split("/")
        if len(parts) < 3 or parts[0] != "visionops_assets":
            continue
        for name, _ in found:
            names = name.split(".")
            if (
                names[0] == "visionops_assets"
                and len(names) > 1
                and names[1] in order
                and names[1] != parts[1]
            ):
                later = order.index(names[1]) > order.index(parts[1])
                if later or {"assets", "checks", "jobs"} & set(names[2:]):
                    wrong.append(f"{path} imports {name}")
    assert not wrong


# Where the tasks are registered; a device has a table of its own, for it imports nothing of the product.
KNOWS_TASKS = "visionops_assets/tasks/"


def test_nothing_compares_names_of_tasks():
    """What differs by task is a facet, found by the registry: a third task would miss every comparison."""
    wrong = []
    for path, _ in sources():
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            said: list[ast.AST] = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            said += [node.slice] if isinstance(node, ast.Subscript) else []
            said += [case.pattern for case in node.cases] if isinstance(node, ast.Match) else []
            named = {each for part in said for each in ast.walk(part)}
            if not path.startswith(KNOWS_TASKS) and any(is_name_of_task(each) for each in named):
                wrong.append(f"{path}: {ast.unparse(node)}")
    assert not wrong


def is_name_of_task(node: ast.AST) -> bool:
    literal = isinstance(node, ast.Constant) and node.value in names()
    constant = isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node).split(".")[-1] in {
        name.upper() for name in names()
    }
    return literal or constant


def test_a_device_imports_what_its_distribution_names():
    named = {
        name
        for path, found in sources()
        if path.startswith("edge/")
        for name in (top_of(each) for each, _ in found)
    }
    assert named - set(sys.stdlib_module_names) <= OF_A_DEVICE | WELCOME_ON_A_DEVICE
    project = tomllib.loads((ROOT / "edge" / "pyproject.toml").read_text())["project"]
    stated = project["dependencies"]
    assert {each.split(">")[0] for each in project["optional-dependencies"]["fast"]} == WELCOME_ON_A_DEVICE
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    distributions = {"PIL": "pillow"}
    for name in OF_A_DEVICE - {"edge"}:
        distribution = distributions.get(name, name)
        assert any(each.startswith(distribution) for each in stated), name
        assert any(each.startswith(distribution) for each in ours), name


def test_a_device_needs_no_newer_python_than_it_says():
    for file in (ROOT / "edge").rglob("*.py"):
        ast.parse(file.read_text(), feature_version=(3, 10))


def is_shell(module: str) -> bool:
    names = module.split(".")
    return "shells" in names or names[-1] in ("assets", "checks", "jobs", "presentation", "graph")


def test_only_shells_know_dagster():
    """In `visionops_assets`; and only shells import what knows it."""
    wrong = []
    for path, found in sources():
        module = path.removesuffix(".py").replace("/", ".")
        if path.startswith("visionops_assets/") and not is_shell(module):
            names = {name for name, _ in found}
            knows = any(top_of(name) == "dagster" for name in names)
            if knows or any(name.startswith("visionops_assets.shells") for name in names):
                wrong.append(path)
    assert not wrong


def test_one_module_knows_what_dagster_keeps_private():
    knows = {path for path, found in sources() if any(name.startswith("dagster._") for name, _ in found)}
    assert knows == {"visionops_assets/shells/unstable_dagster.py"}
    for name in unstable_dagster.__all__:
        assert getattr(unstable_dagster, name) is not None


def test_one_module_talks_to_lakefs_and_a_few_to_mlflow():
    lakefs, mlflow = set(), set()
    for path, found in sources():
        names = {top_of(name) for name, _ in found}
        if names & {"lakefs", "lakefs_sdk"}:
            lakefs.add(path)
        if "mlflow" in names:
            mlflow.add(path)
    assert all(path.startswith("resources/lakefs") for path in lakefs), lakefs
    assert all(path.startswith("resources/models/") for path in mlflow), mlflow


def test_a_benchmark_that_takes_from_the_tests_finds_them_as_a_script():
    for file in (ROOT / "benchmarks").rglob("*.py"):
        text = file.read_text()
        takes = {top_of(name) for name, _ in imports(ast.parse(text))}
        assert "tests" not in takes or "sys.path.insert(0, str(ROOT))" in text, file


def test_no_postponed_annotations_where_dagster_reads_them():
    for file in (*ROOT.glob("visionops_assets/**/assets.py"), *ROOT.glob("visionops_assets/**/checks.py")):
        assert "from __future__ import annotations" not in file.read_text(), file


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """What loading the code location imports, and what it defines, in a process of its own."""
    script = """
import json, sys
import definitions
graph = definitions.defs.resolve_asset_graph()
print(json.dumps({
    "modules": sorted(sys.modules),
    "external": sorted("/".join(key.path) for key in graph.external_asset_keys),
    "projects": [project.project for project in definitions.projects],
    "bare": sorted(
        "/".join(key.path) for key in graph.materializable_asset_keys
        if not all([graph.get(key).description, graph.get(key).owners, graph.get(key).kinds, graph.get(key).group_name])
    ),
}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_heavy_imports_stay_out_of_definition_load(loaded):
    assert [name for name in HEAVY if name in loaded["modules"]] == []


def test_the_only_external_assets_are_images_devices_and_rollouts(loaded):
    images = {f"{project}/images" for project in loaded["projects"]}
    assert set(loaded["external"]) - images == {"digits/devices", "digits/rollout"} and images <= set(
        loaded["external"]
    )


def test_every_asset_has_description_owner_kinds_and_group(loaded):
    assert loaded["bare"] == []


def test_no_two_files_of_tests_have_one_name():
    """Tests are no packages: pytest would import the one and leave the other out."""
    names = Counter(
        file.name for folder in ("tests", "examples") for file in (ROOT / folder).rglob("test_*.py")
    )
    assert [name for name, number in names.items() if number > 1] == []


def test_a_broken_project_file_fails_the_check_of_definitions_by_name(tmp_path: Path):
    (tmp_path / "cats.yaml").write_text("project: cats\nrepository: cats\n")
    done = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-f", "definitions.py"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": "", "VISIONOPS_PROJECTS": str(tmp_path), "DAGSTER_HOME": str(tmp_path)},
    )
    assert done.returncode != 0
    assert "cats.yaml: annotations: is required" in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["lakefs", "lakefs-sdk"])
def test_the_lakefs_client_is_still_under_the_apache_licence(name: str):
    found = metadata.metadata(name)
    stated = " ".join(found[key] for key in ("License", "License-Expression") if key in found)
    assert "Apache" in stated
    assert "BUSL" not in stated


def test_nothing_under_another_licence_than_its_name_suggests_is_installed():
    installed = {(one.metadata["Name"] or "").lower() for one in metadata.distributions()}
    assert not installed & {"ultralytics", "albumentationsx", "lakefs-client"}
