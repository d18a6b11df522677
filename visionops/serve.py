"""`visionops serve`: what is in production answers over HTTP."""

import logging
from typing import Annotated

import typer

from visionops import interruption
from visionops.listening import AllowHost, TlsCert, TlsKey, access_of


def command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8080,
    allow_host: AllowHost = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    group: Annotated[str, typer.Option(help="Device group.")] = "all",
    device: Annotated[str, typer.Option(help="How the log names this server; by default the host.")] = "",
    log: Annotated[bool, typer.Option(help="Write the inference log.")] = True,
    batch: Annotated[int, typer.Option(min=1, help="The most images answered together.")] = 64,
    queue: Annotated[
        int, typer.Option(min=1, help="The most requests that wait; others are told to come again (429).")
    ] = 1024,
    decode_seconds: Annotated[
        float, typer.Option(min=0.05, help="Processor time that one image may take to be decoded.")
    ] = 2.0,
    threads: Annotated[
        int,
        typer.Option(
            min=0, help="Threads of the model a batch; 0: one where several are answered, else all there are."
        ),
    ] = 0,
    look_every: Annotated[
        float, typer.Option(min=0.05, help="Seconds between two looks at what is in production.")
    ] = 2.0,
) -> None:
    """Answer images over HTTP: `curl -F file=@image.png http://127.0.0.1:8080/predict`, or as the body itself.

    Each answer names its model. A promotion or rollback swaps the model between two batches: no request is dropped.
    GET /health and /metrics say how it does. With VISIONOPS_SERVE_TOKEN every request but for /health carries it as
    `Authorization: Bearer`.
    """
    interruption.keep("what was answered is logged")
    from resources.escaping import log_to_stderr
    from visionops import services
    from visionops.serving.app import PredictionApp
    from visionops.serving.current import CurrentModel
    from visionops.serving.prediction_log import BackgroundLog, PredictionLog, this_machine
    from visionops.serving.prediction_server import PredictionServer

    log_to_stderr()
    logging.getLogger("visionops").setLevel(logging.INFO)
    found = services.project(project)
    registry = services.registry()
    note = services.check_group(registry, project, group)
    current = CurrentModel(registry, project, group, threads)
    if note is not None:
        typer.echo(note, err=True)
    written = None
    if log:
        written = BackgroundLog(PredictionLog(services.spool(), found, device or this_machine(), group))
    app = PredictionApp(
        project,
        group,
        current,
        written,
        batch=batch,
        look_every=look_every,
        queue=queue,
        decode_seconds=decode_seconds,
    )
    access = access_of("VISIONOPS_SERVE_TOKEN", allow_host, tls_cert, tls_key)
    server = PredictionServer(app, host, port, access=access)
    server.run(
        lambda: typer.echo(
            f"version {current.model.version} of {project} answers at {server.address}/predict: "
            f"`curl -F file=@image.png {server.address}/predict`; Ctrl-C stops it"
        )
    )
    if written is not None and written.dropped:
        interruption.keep(f"{written.dropped:,} rows of what was answered are lost to the log")
