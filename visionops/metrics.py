"""`visionops metrics`: what Prometheus reads of all projects."""

import os
from typing import Annotated

import typer

from visionops.listening import AllowHost, TlsCert, TlsKey, access_of

PORT = 9321


def command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = PORT,
    allow_host: AllowHost = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
) -> None:
    """Answer Prometheus at /metrics: champions, verdicts, drift, performance, freshness, runs, sensors, alarms.

    A service that is away is `visionops_up` 0; everything else goes on being told. With VISIONOPS_METRICS_TOKEN every
    request but for /health carries it as `Authorization: Bearer`.
    """
    # A page that is waited for: MLflow's own patience would be twenty seconds.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")

    from resources.escaping import log_to_stderr
    from visionops import services
    from visionops.exporter.app import metrics_app
    from visionops.exporter.collector import Exporter
    from visionops.exporter.readings import readings
    from visionops.serving.prediction_server import PredictionServer
    from webserver.limits import ServerLimits

    log_to_stderr()
    with services.dagster() as instance:
        access = access_of("VISIONOPS_METRICS_TOKEN", allow_host, tls_cert, tls_key)
        app = metrics_app(Exporter(readings(instance)))
        server = PredictionServer(app, host, port, access=access, limits=ServerLimits())
        server.run(lambda: typer.echo(f"metrics of all projects at {server.address}/metrics"))
