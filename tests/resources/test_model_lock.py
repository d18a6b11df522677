"""The lock that serialises promotion."""

import os
from pathlib import Path

import pytest

from resources.models.lock import LockNotConfigured, PromotionLocked, file_lock
from resources.models.registry import ModelRegistry


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
        ("sqlite://", "is a sqlite database: name a Postgres"),
        ("nosuchdb://host/x", "no address of a database"),
        ("postgresql+psycopg2cffi://user:secret@host/x", "pip install 'visionops.postgres.'"),
    ],
)
def test_lock_address_that_cannot_work_is_named_with_the_fix(url: str, said: str) -> None:
    registry = ModelRegistry(tracking_uri="http://127.0.0.1:1", lock_url=url)
    with pytest.raises(LockNotConfigured, match=said) as error:
        registry.lock("digits").__enter__()
    assert "secret" not in str(error.value)
