"""Servers: lakeFS and its repositories, MLflow, pages of the UI, webhooks, and what listens where we would."""

import os
import socket
import ssl
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from resources import home
from resources.databases import sqlite_path
from resources.escaping import HIDDEN
from resources.lakefs.client import LakeFSResource
from resources.lakefs.replies import LakeFSNotFound, LakeFSUnavailable
from resources.models.mlflow_client import TRACKING_URI
from resources.settings import given
from resources.webhooks import VARIABLES
from visionops.diagnosis.checking import ANSWER_SECONDS, Check, Finding, broken, ok, setting, warning
from visionops_assets.config.project import Project

ENDPOINT = "LAKEFS_ENDPOINT"
_PAGES = {
    "DAGSTER_UI_URL": "Dagster's pages",
    "MLFLOW_UI_URL": "MLflow's pages",
    "LAKEFS_UI_URL": "lakeFS's pages",
}
_PORTS = {"http": 80, "https": 443}


def checks(projects: Sequence[Project]) -> Iterator[Check]:
    """Every server that the environment names, and the embedded ones."""
    from visionops import services

    lakefs = services.lakefs(ANSWER_SECONDS)
    where = setting(ENDPOINT, "LAKEFS_ACCESS_KEY_ID", otherwise=f"the embedded one, {home.lakefs_data()}")
    fix = f"start it, or correct {ENDPOINT}, LAKEFS_ACCESS_KEY_ID and LAKEFS_SECRET_ACCESS_KEY"
    yield Check("lakeFS", where, "its version, with this key", fix, partial(_lakefs, lakefs))
    for project in projects:
        repository = f"repository {project.repository}"
        yield Check(
            repository,
            f"repository of {project.project}",
            "read the newest commit of main",
            f"allow this key to read and write {project.repository}",
            partial(_repository, lakefs, project),
        )
    yield Check(
        "MLflow",
        setting(TRACKING_URI, otherwise=f"a local one, {home.mlflow_folder()}"),
        "ask for a model, with this user",
        f"start it, or correct {TRACKING_URI} and its credentials",
        _mlflow,
    )
    yield Check(
        "MLflow's files",
        "where MLflow says that its runs keep them",
        "list those of each project's newest run",
        "let this machine reach them, as it reaches MLflow",
        lambda: _files_of_runs(projects),
    )
    for variable, name in _PAGES.items():
        if given(variable):
            yield Check(
                name,
                setting(variable, otherwise=""),
                "connect",
                f"correct {variable}, where browsers find it",
                partial(_page, variable),
            )
    for channel, variable in VARIABLES.items():
        yield Check(
            f"webhook for {channel}",
            _hidden(variable),
            "connect, and no message",
            f"correct {variable}, or let this machine reach it",
            partial(webhook, variable),
        )
    yield Check(
        "calls of lakeFS", _hidden("VISIONOPS_WEBHOOK_TOKEN"), "is there a token", "set it", _receiver
    )
    yield Check("metrics", "port of `visionops metrics`", "ask its page", "use another port", metrics)


def embedded_sleeps() -> bool:
    """Whether lakeFS is the embedded one and does not run now; asking it anything would start it."""
    if given(ENDPOINT):
        return False
    from lakefs_local import discovery

    return discovery.running(home.lakefs_data()) is None


def _lakefs(client: LakeFSResource) -> Finding:
    if embedded_sleeps():
        return _sleeping(home.lakefs_data())
    return ok(f"{client.version()} at {client.address()}")


def _sleeping(data: Path) -> Finding:
    """Whether the embedded lakeFS could start on its folder, as far as can be seen without."""
    from lakefs_local import data_folder
    from lakefs_local.data_folder import DataFolder, FolderError

    folder = DataFolder(data)
    if not folder.path.exists():
        return ok("it starts when it is needed")
    if not os.access(folder.path, os.R_OK | os.W_OK | os.X_OK):
        return broken(f"{folder.path} cannot be written by this user", f"chmod -R u+rwX {folder.path}")
    try:
        if folder.database.exists():
            folder.check_format()
        if folder.credentials.exists():
            data_folder.load_keys(folder.credentials)
    except FolderError as error:
        what, _, fix = str(error).partition(": ")
        return broken(what, fix)
    return ok("it starts when it is needed")


def _repository(client: LakeFSResource, project: Project) -> Finding:
    if embedded_sleeps():
        return ok("not looked at: the embedded lakeFS does not run now")
    try:
        head = client.head(project.repository)
    except LakeFSNotFound:
        return warning(
            "is not there yet", f"`visionops import {project.project} SOURCE --batch NAME` makes it"
        )
    except LakeFSUnavailable:
        return broken("not looked at: lakeFS does not answer", "mend lakeFS first")
    return ok(f"main is commit {head.id[:12]}")


def _mlflow() -> Finding:
    from visionops import services
    from visionops.diagnosis.databases import mlflow_database

    uri = home.mlflow_uri()
    file = sqlite_path(uri)
    if file is not None and not file.exists():
        if given(TRACKING_URI) and not file.parent.is_dir():
            return broken(
                f"{file.parent} does not exist", f"mkdir -p {file.parent}, or correct {TRACKING_URI}"
            )
        return ok(f"{file} is made when it is needed")
    unfit = mlflow_database()
    if unfit is not None:
        return unfit
    registry = services.registry()
    registry.models.get("visionops-doctor")
    return ok("answers, and takes this user" if _place(uri) else "answers")


def _files_of_runs(projects: Iterable[Project]) -> Finding:
    """An MLflow that answers may keep its files where this machine cannot read them."""
    from visionops import services

    file = sqlite_path(home.mlflow_uri())
    if file is not None and not file.exists():
        return ok("there are none yet")
    registry, seen = services.registry(), 0
    for project in projects:
        for run in registry.runs.search(project.project, limit=1):
            seen += len(registry.artifacts.list(run.id))
    return ok(f"{seen} files are listed")


def _page(variable: str) -> Finding:
    """A page need not be reached from here: links to it are for browsers."""
    address = given(variable)
    fix = f"correct {variable}: http://HOST:PORT, where browsers find it"
    problem = _unreachable(address)
    if problem is None:
        return ok("can be reached from here")
    return (
        broken(problem, fix) if _place(address) is None else warning(f"{problem}; browsers may reach it", fix)
    )


def webhook(variable: str) -> Finding:
    """Whether what takes messages can be reached by the way that they take; nothing is sent."""
    address = given(variable)
    if not address:
        return ok("nobody is told")
    problem = _unreachable(address)
    if problem is None:
        return ok(f"{urlsplit(address).hostname} can be reached")
    return broken(problem, f"correct {variable}, or let this machine reach it")


def _unreachable(address: str) -> str | None:
    """Why no connection to the host of an address comes about, by a proxy where the environment names one.

    No request is made. All but the host is a secret.
    """
    place = _place(address)
    if place is None:
        return "it is no http or https address"
    scheme, host, port = place
    proxy = getproxies().get(scheme)
    via = _place(proxy) if proxy and not proxy_bypass(host) else None
    try:
        with socket.create_connection(via[1:] if via else (host, port), timeout=ANSWER_SECONDS) as connection:
            if via is not None:
                return _refused_by(connection, host, port)
            if scheme == "https":
                _context().wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return f"{host} has no certificate that is trusted here: {error.verify_message}"
    except (OSError, UnicodeError) as error:
        reached = f"the proxy {via[1]}" if via else host
        return f"{reached} cannot be reached: {getattr(error, 'strerror', None) or error}"
    return None


def _refused_by(connection: socket.socket, host: str, port: int) -> str | None:
    """Why a proxy connects to no such place."""
    connection.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    status = connection.recv(64).decode(errors="replace").split()
    if len(status) > 1 and status[1] == "200":
        return None
    return f"the proxy does not connect to {host} (status {status[1] if len(status) > 1 else 'unknown'})"


def _place(address: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None for what is no web address."""
    try:
        parts = urlsplit(address)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname else None


def _context() -> ssl.SSLContext:
    """The certificates that messages are sent by."""
    import httpx

    return httpx.create_ssl_context()


def _receiver() -> Finding:
    from visionops.cli.listening import why_no_webhook

    missing = why_no_webhook()
    return warning("`visionops webhook serve` and `up` take none", missing) if missing else ok("can be known")


def metrics() -> Finding:
    """Whether something answers Prometheus on the usual port."""
    import httpx

    from visionops.cli.listening import METRICS_PORT

    page = f"http://127.0.0.1:{METRICS_PORT}"
    try:
        ours = httpx.get(f"{page}/health", timeout=ANSWER_SECONDS).json() == {"visionops": "metrics"}
    except (httpx.ConnectError, httpx.ConnectTimeout):
        return ok(f"nothing answers at {page}; `visionops up` and `visionops metrics` do")
    except (httpx.HTTPError, ValueError):
        ours = False
    if ours:
        return ok(f"{page}/metrics answers")
    return warning(
        f"something else listens on port {METRICS_PORT}",
        f"stop it, or use another port: `visionops metrics --port {METRICS_PORT + 1}`, "
        f"`visionops up --metrics-port {METRICS_PORT + 1}`",
    )


def _hidden(variable: str) -> str:
    """A variable whose whole value is a secret."""
    return f"{variable}={HIDDEN}" if given(variable) else f"{variable} is not set"
