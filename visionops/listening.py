"""What every command that listens is told: how it is called, its token, its certificate."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from visionops.serving.prediction_server import Access

AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="A name that clients call this server, beside its address; `*` for any. May be repeated.",
    ),
]
TlsCert = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Certificate, with those that lead to it: speak HTTPS.")
]
TlsKey = Annotated[Path | None, typer.Option(metavar="FILE", help="The certificate's private key.")]


def access_of(
    token: str, allow_host: list[str] | None, tls_cert: Path | None, tls_key: Path | None
) -> "Access":
    """Who may ask a server; `token` names the variable that may hold its token."""
    from visionops.serving.prediction_server import Access

    return Access(token=os.environ.get(token, ""), hosts=allow_host or [], certificate=tls_cert, key=tls_key)
