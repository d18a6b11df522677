"""The lock that serialises promotion."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from resources.model_errors import RegistryUnavailable
from resources.model_lock import LockNotConfigured, PromotionLocked, advisory_lock, file_lock
from resources.model_registry import ModelRegistry

ROOT = Path(__file__).resolve().parents[2]
POSTGRES = os.environ.get("VISIONOPS_TEST_POSTGRES", "")
HOLDER = """
import sys, time
from resources.model_lock import advisory_lock
with advisory_lock(sys.argv[1], "digits", 10):
    print("held", flush=True)
    time.sleep(600)
"""


def test_lock_is_free_again_after_an_error_inside(tmp_path: Path) -> None:
    with pytest.raises(KeyError), file_lock(tmp_path, "digits", 1):
        raise KeyError
    with (
        file_lock(tmp_path, "digits", 1),
        pytest.raises(PromotionLocked, match=f"process {os.getpid()} since"),
    ):
        file_lock(tmp_path, "digits", 0).__enter__()


def test_stores_in_different_places_do_not_wait_for_each_other(tmp_path: Path) -> None:
    one, other = (ModelRegistry(tracking_uri=f"sqlite:///{tmp_path}/{name}/mlflow.db") for name in "ab")
    with one.lock("digits", 0), other.lock("digits", 0):
        pass


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "no address of a database"),
        ("sqlite://", "sqlite database, which has no advisory locks"),
        ("nosuchdb://host/x", "no address of a database"),
        ("postgresql+psycopg2cffi://user:secret@host/x", "pip install pg8000"),
    ],
)
def test_lock_address_that_cannot_work_is_named_with_the_fix(url: str, said: str) -> None:
    registry = ModelRegistry(tracking_uri="http://127.0.0.1:1", lock_url=url)
    with pytest.raises(LockNotConfigured, match=said) as error:
        registry.lock("digits").__enter__()
    assert "secret" not in str(error.value)


@pytest.mark.skipif(not POSTGRES, reason="VISIONOPS_TEST_POSTGRES names no Postgres to test with")
def test_advisory_lock_is_held_across_processes_and_dies_with_its_holder() -> None:
    command = [sys.executable, "-c", HOLDER, POSTGRES]
    holder = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(PromotionLocked, match="pg_locks"), advisory_lock(POSTGRES, "digits", 0.3):
        pass
    with advisory_lock(POSTGRES, "another", 0.3):
        pass
    holder.kill()
    holder.wait(60)
    holder.stdout.close()
    with advisory_lock(POSTGRES, "digits", 10):
        pass


@pytest.mark.skipif(not POSTGRES, reason="VISIONOPS_TEST_POSTGRES names no Postgres to test with")
def test_postgres_that_does_not_answer_is_unavailable() -> None:
    nowhere = f"{POSTGRES.split('://')[0]}://nobody@127.0.0.1:9/none"
    with pytest.raises(RegistryUnavailable, match="start it"), advisory_lock(nowhere, "digits", 1):
        pass
