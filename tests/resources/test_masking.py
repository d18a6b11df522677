"""No secret stands in what is shown of an address, or in a message."""

import pytest

from resources.escaping import masked, without_secrets

SECRET = "s3cret-word"


@pytest.mark.parametrize(
    ("address", "left"),
    [
        (f"postgresql://ada:{SECRET}@db:5432/dagster", "postgresql://db:5432/dagster"),
        (f"postgresql+psycopg2://ada:{SECRET}@db/dagster", "postgresql://db/dagster"),
        (f"postgres://ada:{SECRET}@", "postgres://"),
        (f"postgresql://ada:{SECRET}/with@signs@db/dagster", "postgresql://db/dagster"),
        (f"postgresql://ada:12/{SECRET}@db/dagster", "postgresql://db/dagster"),
        (f"postgresql://db/dagster?user=ada&password={SECRET}&sslmode=require", "sslmode=require"),
        (f"https://{SECRET}@mlflow.example.com/x", "https://mlflow.example.com/x"),
        (f"https://ada:{SECRET}#1@mlflow.example.com/x", "https://mlflow.example.com/x"),
        (f"https://hooks.example.com/x?token={SECRET}", "https://hooks.example.com/x?token=***"),
        (f"ada:{SECRET}@db/dagster", "db/dagster"),
    ],
)
def test_an_address_is_shown_without_its_secrets(address: str, left: str) -> None:
    assert left in masked(address)
    assert SECRET not in masked(address)
    assert SECRET not in masked(address, "***")


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:5000",
        "sqlite:////home/ada@example.com/mlflow.db",
        "s3://bucket/ada@example.com/tables",
        "https://git.example.com/parts@v1.2",
        "git@example.com:vision/parts.git",
        "nonsense",
        "",
    ],
)
def test_an_address_without_secrets_is_shown_as_it_is(address: str) -> None:
    assert masked(address) == address


def test_that_something_is_hidden_can_be_seen() -> None:
    assert masked(f"postgresql://ada:{SECRET}@db/x", "***") == "postgresql://***@db/x"


def test_a_message_has_no_secret_that_the_environment_holds() -> None:
    environment = {
        "LAKEFS_SECRET_ACCESS_KEY": SECRET,
        "DAGSTER_POSTGRES_URL": "postgresql://ada:other%2Fword@db/dagster",
        "VISIONOPS_ERROR_WEBHOOK": "https://hooks.example.com/services/T0/B0/xyz",
        "VISIONOPS_HOME": "/srv/visionops",
    }
    said = without_secrets(
        f"401 for {SECRET}; other/word; other%2Fword; posted to /services/T0/B0/xyz; "
        "see postgresql://bob:pw@elsewhere/x, in /srv/visionops",
        environment,
    )
    assert (
        said == "401 for ***; ***; ***; posted to /***; see postgresql://***@elsewhere/x, in /srv/visionops"
    )


def test_a_short_value_is_not_cut_out_of_words() -> None:
    assert without_secrets("tests are run", {"AWS_SECRET_ACCESS_KEY": "tests"}) == "tests are run"
