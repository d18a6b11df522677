"""What `examples/` shows runs on a home as a demo leaves one."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from homes import Home

ROOT = Path(__file__).parents[2]


@pytest.mark.stated
def test_tables_are_read_as_pandas(new_home: Callable[[], Home]) -> None:
    home = new_home()
    assert home.visionops("tick").code == 0
    script = [sys.executable, str(ROOT / "examples" / "read_tables.py"), "shapes"]
    done = subprocess.run(script, cwd=ROOT, env=home.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "week-01" in done.stdout and "challenger_probabilities" in done.stdout
