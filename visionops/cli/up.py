"""`visionops up`: Dagster UI and daemon, MLflow, lakeFS and the metrics together, until interrupted."""

import contextlib
import functools
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from resources import home
from resources.environ import give_token_to_actions
from resources.error_family import Unavailable
from resources.escaping import masked
from resources.settings import given
from visionops import interruption, services
from visionops.child_process import Children, Guard, children, guarded
from visionops.cli import listening as metrics_verb
from visionops.cli import listening as webhook_verb
from visionops.cli.homes import only_one

LOOK_EVERY_SECONDS = 0.3
# The embedded lakeFS stays while this process lives; one that was killed is started again.
CALL_LAKEFS_EVERY_SECONDS = 60


def up_command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the Dagster UI.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of MLflow's UI.")] = 5000,
    metrics: Annotated[bool, typer.Option(help="Answer Prometheus, as `visionops metrics` does.")] = True,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help=f"Port of the metrics; by default {metrics_verb.METRICS_PORT}, or a free one where that is taken.",
        ),
    ] = None,
    webhook: Annotated[
        bool, typer.Option(help="Take lakeFS's calls after a commit, as `visionops webhook serve` does.")
    ] = True,
    webhook_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help=f"Port of the webhook; by default {webhook_verb.WEBHOOK_PORT}, or a free one where that is taken.",
        ),
    ] = None,
    fleet: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROJECT",
            help="Simulated devices of a project too, as `visionops fleet up` runs them; several times.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run the Dagster UI, its daemon, MLflow, lakeFS, the metrics and the webhook together until Ctrl-C.

    What the environment points elsewhere (LAKEFS_ENDPOINT, MLFLOW_TRACKING_URI) is used and not started.
    """
    interruption.keep("what was being run is taken up where it was")
    for project in fleet or ():
        services.project(project)
    with only_one(_page(host, port)) as locks, guarded(locks) as guard:
        beside = []
        if metrics:
            beside.append(
                _Beside("metrics", "/metrics", ("metrics",), metrics_verb.METRICS_PORT, metrics_port)
            )
        if webhook and (missing := webhook_verb.why_no_webhook()):
            typer.echo(f"webhook  off: {missing}")
        elif webhook:
            words = ("webhook", "serve", "--dagster", _page(host, port))
            beside.append(
                _Beside("webhook", webhook_verb.WEBHOOK_PATH, words, webhook_verb.WEBHOOK_PORT, webhook_port)
            )
        _run(host, port, mlflow_port, beside, guard, fleet or ())


@dataclass(frozen=True)
class _Beside:
    """A verb that runs beside Dagster: its page, its words, its usual port and the one that was asked for."""

    name: str
    page: str
    words: tuple[str, ...]
    usual: int
    asked: int | None

    def port(self, host: str) -> int:
        """The port asked for, which has to be free, else the usual one, else any: its address is printed."""
        option = f"--{self.name}-port"
        if self.asked is not None:
            _check_free(host, self.asked, option)
            return self.asked
        with contextlib.suppress(Unavailable):
            _check_free(host, self.usual, option)
            return self.usual
        with socket.create_server((host, 0), family=socket.getaddrinfo(host, 0)[0][0]) as free:
            return int(free.getsockname()[1])


def _run(
    host: str, port: int, mlflow_port: int, beside: Sequence[_Beside], guard: Guard, fleets: Sequence[str]
) -> None:
    own_mlflow = not given("MLFLOW_TRACKING_URI")
    _check_free(host, port, "--port")
    if own_mlflow:
        _check_free(host, mlflow_port, "--mlflow-port")
    else:
        # Wrong, it would be found by the first run.
        services.registry().models.get("visionops-up")
    ports = [each.port(host) for each in beside]
    logs = home.home() / "logs"
    logs.mkdir(exist_ok=True)
    _end_stale_runs()
    with _lakefs(guard) as keep_lakefs, children(guard) as started:
        dagster_page, mlflow_page = _page(host, port), _page(host, mlflow_port)
        # What runs write from now on links to where these are.
        environment = {"PYTHONUNBUFFERED": "1", **_unless_set("DAGSTER_UI_URL", dagster_page)}
        if own_mlflow:
            environment |= _unless_set("MLFLOW_UI_URL", mlflow_page)
        started.start("Dagster", _dagster(host, port), logs / "dagster.log", environment)
        typer.echo(f"Dagster  starting   (log: {logs / 'dagster.log'})")
        if own_mlflow:
            # The job runner is seven processes for features that are not used here.
            environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
            started.start("MLflow", _mlflow(host, mlflow_port), logs / "mlflow.log", environment)
            typer.echo(f"MLflow   starting, takes half a minute   (log: {logs / 'mlflow.log'})")
        for each, answering in zip(beside, ports, strict=True):
            words = (*each.words, "--host", host, "--port", str(answering))
            command_line = [sys.executable, "-m", "visionops", *words]
            started.start(each.name, command_line, logs / f"{each.name}.log", {"PYTHONUNBUFFERED": "1"})
        _wait_until_ready(f"{dagster_page}/server_info", started)
        typer.echo(f"Dagster  {dagster_page}")
        if own_mlflow:
            _wait_until_ready(f"{mlflow_page}/health", started)
            typer.echo(f"MLflow   {mlflow_page}")
        for each, answering in zip(beside, ports, strict=True):
            _wait_until_ready(f"{_page(host, answering)}/health", started)
            typer.echo(f"{each.name:<8} {_page(host, answering)}{each.page}")
        for project in fleets:
            log = logs / f"fleet-{project}.log"
            fleet_up = [sys.executable, "-m", "visionops", "fleet", "up", project]
            started.start(f"The fleet of {project}", fleet_up, log, {"PYTHONUNBUFFERED": "1"})
            typer.echo(f"fleet    of {project}, simulated   (log: {log})")
        typer.echo("All is up; Ctrl-C stops it.")
        try:
            _watch(started, keep_lakefs)
        except interruption.Interrupted:
            typer.echo("Stopping; Dagster takes some seconds.")
            _interrupt_runs(started)
            raise


def _check_free(host: str, port: int, option: str) -> None:
    """Raise `Unavailable` where something else listens: a child would say so only after half a minute."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as problem:
        raise Unavailable(
            f"cannot listen on {host} port {port} ({problem.strerror}): stop what listens there, or take another "
            f"port, for example `visionops up {option} {port + 1}`"
        ) from problem


def _end_stale_runs() -> None:
    from sensors.unfinished_runs import end_stale_runs

    with services.dagster() as instance:
        for run_id in end_stale_runs(instance):
            typer.echo(f"run {run_id} ended with its process; its sensor will ask for it again")


def _interrupt_runs(started: Children) -> None:
    """Runs of the daemon that stops end with it: they did not fail."""
    from sensors.unfinished_runs import runs_in
    from visionops_assets.shells.job_execution import note_interruption

    with services.dagster() as instance:
        for run_id in runs_in(instance, {child.process.pid for child in started.started}):
            note_interruption(instance, run_id)


@contextlib.contextmanager
def _lakefs(guard: Guard) -> Iterator[Callable[[], object]]:
    """Give what keeps the server in use alive; one that this command started stops with it, unless it is in use."""
    if given("LAKEFS_ENDPOINT"):
        typer.echo(f"lakeFS   {masked(given('LAKEFS_ENDPOINT'))}")
        yield lambda: None
        return
    from lakefs_local import discovery

    data = home.lakefs_data()
    found = discovery.running(data)
    give_token_to_actions()
    if found is None:
        guard.note_lakefs(data)
    server = discovery.ensure_running(data)
    typer.echo(f"lakeFS   {server.endpoint}   (clients sign in with {data / 'credentials.json'})")
    try:
        yield functools.partial(discovery.ensure_running, data)
    finally:
        now = discovery.running(data)
        started_here = now is not None and (found is None or now.pid != found.pid)
        if started_here and not discovery.stop(data, unless_used=True):
            typer.echo("lakeFS   stays while another process uses it")


def _page(host: str, port: int) -> str:
    """The address for a browser on this machine."""
    shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"


def _unless_set(name: str, value: str) -> dict[str, str]:
    return {name: given(name) or value}


def _dagster(host: str, port: int) -> list[str]:
    workspace = str(home.ROOT / "workspace.yaml")
    return [sys.executable, "-m", "dagster", "dev", "-w", workspace, "-h", host, "-p", str(port)]


def _mlflow(host: str, port: int) -> list[str]:
    folder = home.mlflow_folder()
    (folder / "artifacts").mkdir(parents=True, exist_ok=True)
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", home.mlflow_uri()),
        *("--default-artifact-root", (folder / "artifacts").as_uri()),
    ]


def _wait_until_ready(page: str, started: Children) -> None:
    import httpx

    while True:
        started.check()
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(page, timeout=2).is_success:
                return
        time.sleep(LOOK_EVERY_SECONDS)


def _watch(started: Children, keep_lakefs: Callable[[], object]) -> None:
    called = time.monotonic()
    while True:
        started.check()
        if time.monotonic() - called > CALL_LAKEFS_EVERY_SECONDS:
            keep_lakefs()
            called = time.monotonic()
        time.sleep(LOOK_EVERY_SECONDS)
