"""What every command sets up: Dagster's configuration by the environment."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from visionops import bootstrap


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Dagster's configuration once a command is prepared, with a variable's value."""
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path / "home"))
    for name in ("DAGSTER_HOME", "DAGSTER_POSTGRES_URL", "AWS_ENDPOINT_URL"):
        # Set, so that it is taken back: `prepare` sets it for good.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)

    def configured(logs: str) -> dict[str, Any]:
        monkeypatch.setenv(bootstrap.COMPUTE_LOGS, logs)
        bootstrap.prepare()
        return dict(yaml.safe_load((tmp_path / "home" / "dagster" / "dagster.yaml").read_text()))

    return configured


def test_what_steps_print_goes_where_the_environment_says(configured: Any) -> None:
    assert "compute_logs" not in configured("")
    bucket = configured("s3://logs/of/dagster")["compute_logs"]
    assert (bucket["class"], bucket["config"]["bucket"]) == ("S3ComputeLogManager", "logs")
    assert bucket["config"]["prefix"] == "of/dagster"
    assert bucket["config"]["skip_empty_files"]
    assert configured("s3://logs")["telemetry"] == {"enabled": False}
    assert "compute_logs" not in configured("")


@pytest.mark.parametrize("logs", ["s3://", "folder/of/logs", "none"])
def test_an_address_that_is_none_names_the_variable(configured: Any, logs: str) -> None:
    with pytest.raises(RuntimeError, match=rf"VISIONOPS_COMPUTE_LOGS is {logs}: write s3://BUCKET/PREFIX"):
        configured(logs)
