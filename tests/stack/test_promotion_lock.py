"""The lock that serialises promotion on several machines, on a real Postgres."""

import subprocess
import sys
from pathlib import Path

import pytest

from resources.models.lock import PromotionLocked, advisory_lock
from resources.models.records import RegistryUnavailable

ROOT = Path(__file__).resolve().parents[2]
HOLDER = """
import sys, time
from resources.models.lock import advisory_lock
with advisory_lock(sys.argv[1], "digits", 10):
    print("held", flush=True)
    time.sleep(600)
"""


def test_advisory_lock_is_held_across_processes_and_dies_with_its_holder(postgres_url: str) -> None:
    command = [sys.executable, "-c", HOLDER, postgres_url]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == "held\n"
            with pytest.raises(PromotionLocked, match="pg_locks"), advisory_lock(postgres_url, "digits", 0.3):
                pass
            with advisory_lock(postgres_url, "another", 0.3):
                pass
        finally:
            holder.kill()
    with advisory_lock(postgres_url, "digits", 10):
        pass


def test_lock_is_free_again_after_an_error_inside(postgres_url: str) -> None:
    with pytest.raises(KeyError), advisory_lock(postgres_url, "digits", 1):
        raise KeyError
    with advisory_lock(postgres_url, "digits", 0.3):
        pass


def test_postgres_that_does_not_answer_is_unavailable() -> None:
    pytest.importorskip("psycopg2")
    nowhere = "postgresql://nobody@127.0.0.1:9/none"
    with pytest.raises(RegistryUnavailable, match="start it"), advisory_lock(nowhere, "digits", 1):
        pass
