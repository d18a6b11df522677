"""Addresses of a Postgres as people and services write them."""

_WITHOUT_DRIVER = ("postgres", "postgresql")


def with_driver(url: str) -> str:
    """The address for SQLAlchemy with the driver of `visionops[postgres]`; one that names a driver keeps it.

    Left to itself, SQLAlchemy 2.1 takes `postgresql://` to mean psycopg 3 and does not know `postgres://`.
    """
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg2://{rest}" if separator and scheme in _WITHOUT_DRIVER else url
