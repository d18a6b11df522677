"""Which environment has the recorded versions, how it is made, and what else a clean process is given."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from visionops_assets.reproduction.clean_process import environment_of, last_words
from visionops_assets.reproduction.recorded_world import (
    EnvironmentPlan,
    EnvironmentUnavailable,
    build_environment,
    plan_environment,
)
from visionops_assets.training import code_digest

RECORDED = {"python": "3.12.4", "torch": "2.13.0+cpu", "numpy": "2.4.0", "visionops": "0.1.0", "pip": "25.0"}


def planned(**present: str | None) -> EnvironmentPlan:
    """The plan where `present` replaces what was recorded, None takes it away."""
    installed = {**RECORDED, **present}
    here = {name: version for name, version in installed.items() if version is not None}
    return plan_environment(RECORDED, here, python="python", find_python=lambda name: f"/usr/bin/{name}")


@pytest.mark.parametrize(
    "present", [{}, {"added": "1.0"}, {"visionops": "0.2.0", "pip": "26.3"}, {"python": "3.12.9"}]
)
def test_the_present_environment_will_do_where_it_has_each_recorded_version(present: dict[str, str]) -> None:
    assert planned(**present) == EnvironmentPlan("python", ())


@pytest.mark.parametrize(
    ("present", "packages"),
    [
        ({"numpy": "2.5.0"}, ("numpy==2.4.0",)),
        ({"numpy": None}, ("numpy==2.4.0",)),
        ({"numpy": "2.5.0", "torch": "2.14.0"}, ("numpy==2.4.0", "torch==2.13.0+cpu")),
    ],
)
def test_what_differs_is_installed_at_the_recorded_version_and_nothing_else(
    present: dict[str, str | None], packages: tuple[str, ...]
) -> None:
    found = planned(**present)
    assert found.packages == packages
    command = found.command(Path("/target"))
    assert command[:4] == ["python", "-m", "pip", "install"]
    assert "--no-deps" in command
    assert command[command.index("--only-binary") + 1] == ":all:", (
        "what is no wheel runs code when it is installed"
    )
    assert command[command.index("--target") + 1 :] == ["/target", "--", *packages]


@pytest.mark.parametrize(
    "altered",
    [
        {"--index-url=http://evil.example": "1.0"},
        {"-r/etc/passwd": "1.0"},
        {"scaling @ file:///tmp/evil.whl": "1.0"},
        {"../evil": "1.0"},
        {"scaling[extra]": "1.0"},
        {"scaling\n--pre": "1.0"},
        {"": "1.0"},
        {"scaling": "1.0 --index-url=http://evil.example"},
        {"scaling": "1.0; python_version>'0'"},
        {"scaling": "@ file:///tmp/evil.whl"},
        {"scaling": "*"},
        {"scaling": "1.0\n"},
        {"scaling": ""},
        {"python": "/../../../tmp/evil"},
        {"python": "3.12/../evil"},
        {"python": "3"},
    ],
)
def test_what_is_no_package_by_its_name_or_version_is_not_installed(altered: dict[str, str]) -> None:
    found: list[str] = []
    with pytest.raises(EnvironmentUnavailable) as refused:
        plan_environment(
            {**RECORDED, **altered}, RECORDED, python="python", find_python=lambda name: found.append(name)
        )
    assert "\n" not in str(refused.value)
    assert found in ([], ["python3.0"]), "no path is looked for"


def test_another_python_takes_everything_that_was_recorded() -> None:
    found = planned(python="3.11.9")
    assert found == EnvironmentPlan("/usr/bin/python3.12", ("numpy==2.4.0", "torch==2.13.0+cpu"), whole=True)


def test_a_python_that_is_not_installed_is_named() -> None:
    with pytest.raises(EnvironmentUnavailable, match=r"install python3\.12, or let --present-versions"):
        plan_environment(RECORDED, {**RECORDED, "python": "3.11.9"}, find_python=lambda name: None)


def test_it_is_installed_once_and_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    asked: list[Sequence[str]] = []

    def install(command: Sequence[str]) -> None:
        asked.append(command)
        target = Path(command[list(command).index("--target") + 1])
        target.mkdir(parents=True, exist_ok=True)
        (target / "numpy.py").touch()

    def fail(command: Sequence[str]) -> None:
        Path(command[list(command).index("--target") + 1]).mkdir(parents=True, exist_ok=True)
        raise subprocess.CalledProcessError(1, command, stderr="ERROR: no matching distribution for numpy")

    found = planned(numpy="2.5.0")
    with pytest.raises(EnvironmentUnavailable, match=r"numpy==2\.4\.0.*no matching.*PIP_EXTRA_INDEX_URL"):
        build_environment(found, tmp_path, fail)
    assert list(tmp_path.iterdir()) == []
    left = tmp_path / f".{found.name}.{'0' * 32}.unfinished" / found.name
    left.mkdir(parents=True)
    first = build_environment(found, tmp_path, install)
    assert [*tmp_path.iterdir()] == [first], "what was left by one that was killed is gone"
    assert first is not None and (first / "numpy.py").exists()
    assert build_environment(found, tmp_path, install) == first
    assert len(asked) == 1
    assert build_environment(planned(), tmp_path, install) is None


def test_the_clean_process_has_the_recorded_code_first_and_nothing_of_the_callers_state(
    tmp_path: Path,
) -> None:
    ours = tmp_path / "checkout"
    (ours / "visionops_assets").mkdir(parents=True)
    present = {
        "PATH": "/bin",
        "PYTHONPATH": f"{ours}:/theirs",
        "VISIONOPS_ACTOR": "ada",
        "ATEN_CPU_CAPABILITY": "default",
        "LAKEFS_ENDPOINT": "http://elsewhere",
        "OMP_NUM_THREADS": "1",
        "HTTPS_PROXY": "http://proxy:3128",
    }
    access = ("http://there:8000", "key", "secret")
    found = environment_of({}, Path("/code"), Path("/packages"), access, present)
    assert found["PYTHONPATH"] == "/code:/packages:/theirs"
    assert found["LAKEFS_ENDPOINT"] == "http://there:8000"
    assert found["PATH"] == "/bin" and found["OMP_NUM_THREADS"] == "1"
    assert found["HTTPS_PROXY"] == "http://proxy:3128", "lakeFS is elsewhere"
    assert "VISIONOPS_ACTOR" not in found and "ATEN_CPU_CAPABILITY" not in found


def test_of_the_callers_secrets_the_clean_process_has_those_that_reading_the_data_needs() -> None:
    names = [
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SESSION_TOKEN",
        "MLFLOW_TRACKING_PASSWORD",
        "MLFLOW_TRACKING_URI",
        "DAGSTER_POSTGRES_URL",
        "VISIONOPS_WEBHOOK_TOKEN",
        "VISIONOPS_LOCK_URL",
        "LAKEFSACTION_VISIONOPS_TOKEN",
        "WANDB_API_KEY",
        "GITHUB_TOKEN",
        "HF_TOKEN",
        "NVIDIA_API_KEY",
        "TORCH_HUB_TOKEN",
        "PIP_EXTRA_INDEX_URL",
        "SSH_AUTH_SOCK",
        "HTTPS_PROXY",
        "https_proxy",
        "DATABASE_URL",
        "COMPANY_SESSION",
        "GIT_ASKPASS",
        "KUBECONFIG",
        "LAKEFS_SECRET_ACCESS_KEY_FILE",
    ]
    present = {name: f"secret of {name}" for name in names}
    access = ("http://127.0.0.1:8000", "key", "the key's secret")
    found = environment_of({}, Path("/code"), None, access, present)
    assert not [name for name, value in found.items() if value.startswith("secret of ")]
    assert found["LAKEFS_SECRET_ACCESS_KEY"] == "the key's secret"


@pytest.mark.parametrize(
    ("recorded", "flags", "expected"),
    [
        ({"aten_cpu_capability": "AVX512"}, {"avx2", "avx512bw"}, {}),
        ({"aten_cpu_capability": "AVX2"}, {"avx2", "avx512bw"}, {"ATEN_CPU_CAPABILITY": "avx2"}),
        ({"aten_cpu_capability": "AVX2"}, {"asimd"}, {}),
        ({"onednn_isa": "avx2"}, {"avx2", "avx512bw"}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
        ({"onednn_isa": "avx512_core"}, {"avx2", "avx512bw"}, {}),
        ({"onednn_isa": "avx512_core"}, {"avx2"}, {}),
        ({"device": "cpu"}, set(), {"CUDA_VISIBLE_DEVICES": ""}),
        ({"device": "NVIDIA H100"}, set(), {}),
    ],
)
def test_a_better_machine_takes_the_kernels_of_the_one_that_trained_and_a_lesser_one_does_not_pretend(
    recorded: dict[str, str], flags: set[str], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_digest, "cpu_flags", lambda: frozenset(flags))
    assert code_digest.kernel_settings(recorded) == expected


@pytest.mark.slow
def test_torch_takes_the_kernels_that_are_asked_for() -> None:
    if "avx2" not in code_digest.cpu_flags():
        pytest.skip("this processor has one set of kernels only")
    asked = code_digest.kernel_settings({"aten_cpu_capability": "AVX2"})
    script = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    done = subprocess.run(
        [sys.executable, "-c", script], env=asked, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "AVX2"


def said_by(code: str) -> str:
    """What a real process says that ends with an error."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize(
    ("code", "last"),
    [
        ("import json; json.loads('x')", "Expecting value: line 1 column 1 (char 0)"),
        (
            "import subprocess as s\ntry: 1/0\nexcept Exception as e: raise s.SubprocessError('gone') from e",
            "gone",
        ),
        ("raise ValueError('one\\n  two')", "ValueError: one two"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import sys; print('a\\nb\\nc\\nabort', file=sys.stderr)", "b c abort"),
        ("", ""),
    ],
)
def test_the_last_words_of_a_process_are_its_message_and_no_part_of_a_traceback(code: str, last: str) -> None:
    assert last_words(said_by(code)) == last
