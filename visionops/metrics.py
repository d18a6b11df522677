"""`visionops metrics`: what Prometheus reads of all projects."""

import os
from typing import Annotated

import typer

PORT = 9321


def command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = PORT,
) -> None:
    """Answer Prometheus at /metrics: champions, verdicts, drift, performance, freshness, runs, sensors, alarms.

    A service that is away is `visionops_up` 0; everything else goes on being told.
    """
    # A page that is waited for: MLflow's own patience would be twenty seconds.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")

    from resources.escaping import log_to_stderr
    from visionops import services
    from visionops.exporter.app import metrics_app
    from visionops.exporter.collector import Exporter
    from visionops.exporter.readings import readings
    from visionops.serving.server import PredictionServer

    log_to_stderr()
    with services.dagster() as instance:
        server = PredictionServer(metrics_app(Exporter(readings(instance))), host, port)
        server.run(lambda: typer.echo(f"metrics of all projects at {server.address}/metrics"))
