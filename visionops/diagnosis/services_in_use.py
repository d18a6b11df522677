"""What VisionOps talks to: project files, lakeFS, MLflow, artifacts, drops, Dagster, webhooks, metrics."""

import os
import socket
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit

from resources import home
from visionops.diagnosis import Line
from visionops_assets.project import Projects


def projects() -> Iterator[Line]:
    """The project files."""
    folder = home.projects_folder()
    found = _projects()
    for file in found.unusable:
        yield Line(
            "broken",
            f"project {file.project}",
            file.why,
            f"correct the file; {file.project} stands still until then",
        )
    if not found and found.unusable:
        return
    if not found:
        yield Line(
            "warning",
            "projects",
            f"{folder} has no project file",
            "visionops init NAME --from FOLDER makes one",
        )
        return
    yield Line("ok", "projects", f"{', '.join(project.project for project in found)} in {folder}")


def lakefs() -> Iterator[Line]:
    """The lakeFS in use, and whether each project's repository is there."""
    from resources.lakefs_errors import LakeFSError, LakeFSNotFound
    from visionops import services

    endpoint = os.environ.get("LAKEFS_ENDPOINT")
    if endpoint is None:
        from lakefs_local import discovery

        if discovery.running(home.lakefs_data()) is None:
            yield Line(
                "ok", "lakeFS", f"the embedded one, at {home.lakefs_data()}; it starts when it is needed"
            )
            return
    client = services.lakefs()
    try:
        yield Line("ok", "lakeFS", f"{client.version()} at {client.address()}")
    except LakeFSError as error:
        fix = "start it, or correct LAKEFS_ENDPOINT, LAKEFS_ACCESS_KEY_ID and LAKEFS_SECRET_ACCESS_KEY"
        yield Line("broken", "lakeFS", str(error), fix)
        return
    for project in _projects():
        try:
            head = client.head(project.repository)
        except LakeFSNotFound:
            fix = f"visionops import {project.project} SOURCE --batch NAME makes it"
            yield Line("warning", f"repository {project.repository}", "is not there yet", fix)
        except LakeFSError as error:
            fix = f"allow this key to read and write {project.repository}"
            yield Line("broken", f"repository {project.repository}", str(error), fix)
        else:
            yield Line("ok", f"repository {project.repository}", f"main is commit {head.id[:12]}")


def mlflow() -> Iterator[Line]:
    """The MLflow in use."""
    from resources.databases import sqlite_path
    from resources.model_errors import RegistryError
    from visionops import services

    uri = home.mlflow_uri()
    database = sqlite_path(uri)
    if database is not None and not database.exists():
        yield Line("ok", "MLflow", f"a local one, at {database}; it is made when it is needed")
        return
    try:
        services.registry().models.get("visionops-doctor")
    except RegistryError as error:
        fix = "start it, or correct MLFLOW_TRACKING_URI and its credentials"
        yield Line("broken", "MLflow", str(error), fix)
    else:
        yield Line("ok", "MLflow", f"answers at {uri}")


def artifacts() -> Iterator[Line]:
    """The artifact store: written, read and removed again."""
    from visionops import services

    store, key = services.artifacts(), f"doctor/{uuid.uuid4().hex}"
    try:
        store.write(key, b"visionops doctor")
        readable = store.read(key) == b"visionops doctor"
        store.path(key).unlink()
    # What lies behind an address decides what it raises.
    except Exception as error:
        fix = "correct VISIONOPS_ARTIFACTS, or allow writing there"
        yield Line("broken", "artifacts", f"{store.root}: {error or type(error).__name__}", fix)
        return
    if readable:
        yield Line("ok", "artifacts", f"written and read at {store.root}")
    else:
        fix = f"find out what serves {store.root}"
        yield Line("broken", "artifacts", f"{store.root}: what was written did not come back", fix)


def drops() -> Iterator[Line]:
    """Each project's drop."""
    from resources.drop import Drop
    from resources.drop_errors import DropError

    drop = Drop.from_environment()
    for project in _projects():
        place = drop.place(project.project, project.drop.address)
        try:
            batches = place.batches()
        except DropError as error:
            fix = "correct `drop.address` of the project or VISIONOPS_DROP, or allow reading there"
            yield Line("broken", f"drop of {project.project}", str(error), fix)
        else:
            yield Line("ok", f"drop of {project.project}", f"{len(batches)} batches in {place.address}")


def dagster() -> Iterator[Line]:
    """Dagster's storage, and the code location."""
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        runs = instance.get_runs_count()
    yield Line("ok", "Dagster", f"{runs} runs in {home.dagster_home()}")
    import definitions

    assets = len(definitions.defs.resolve_asset_graph().get_all_asset_keys())
    yield Line("ok", "definitions", f"load, with {assets} assets")


def webhooks() -> Iterator[Line]:
    """Whether what takes errors and verdicts can be reached; nothing is sent."""
    from resources.webhooks import VARIABLES

    for channel, variable in VARIABLES.items():
        subject, address = f"webhook for {channel}", os.environ.get(variable)
        if not address:
            yield Line("ok", subject, f"nobody is told: {variable} is not set")
            continue
        # All but the host is a secret.
        fix = f"correct {variable}, or let this machine reach it"
        try:
            parts = urlsplit(address)
            host, port = parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]
        except (ValueError, KeyError):
            host = None
        if not host:
            yield Line("broken", subject, f"{variable} is no http or https address", fix)
            continue
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError as error:
            yield Line("broken", subject, f"{host} cannot be reached: {error.strerror or error}", fix)
        else:
            yield Line("ok", subject, f"{host} can be reached")


def metrics() -> Iterator[Line]:
    """Whether something answers Prometheus on the usual port."""
    import httpx

    from visionops.metrics import PORT

    page = f"http://127.0.0.1:{PORT}"
    try:
        ours = httpx.get(f"{page}/health", timeout=5).json() == {"visionops": "metrics"}
    except (httpx.ConnectError, httpx.ConnectTimeout):
        yield Line("ok", "metrics", f"nothing answers at {page}; `visionops up` and `visionops metrics` do")
        return
    except (httpx.HTTPError, ValueError):
        ours = False
    if ours:
        yield Line("ok", "metrics", f"{page}/metrics answers")
    else:
        fix = "stop it, or use another port: `visionops metrics --port`, `visionops up --metrics-port`"
        yield Line("warning", "metrics", f"something else listens on port {PORT}", fix)


def _projects() -> Projects:
    from visionops_assets.project import load_projects

    return load_projects(home.projects_folder())


CHECKS = (projects, lakefs, mlflow, artifacts, drops, dagster, webhooks, metrics)
