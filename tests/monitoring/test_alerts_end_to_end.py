"""VisionOps, Prometheus and Alertmanager as they ship: a run fails, and Slack's webhook is told.

Of the shipped files only addresses and intervals are replaced. Debian's binaries are used; where there are none, the
test is skipped and says so.
"""

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from dagster._core.test_utils import create_run_for_test
from full_home import fill
from hook import Hook, hook
from production_world import ProductionWorld
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from test_alert_rules import metrics_of_serve

from resources.home import ROOT
from visionops.serving.exporter import Exporter, metrics_app, readings
from visionops.serving.metric_families import FAMILIES
from visionops.serving.prediction_app import CONTENT_TYPE, ServingMetrics
from visionops.serving.prediction_server import in_thread
from visionops_assets.common import run_tags

WITHIN_SECONDS = 60
LOOK_EVERY_SECONDS = 0.05
QUICK = "1s"
# Longer than a scrape may take: most are of what was read before.
KEEP_SECONDS = 2
DEPLOY = ROOT / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "visionops.json"


@dataclass(frozen=True)
class Prometheus:
    """A server, asked over its own API."""

    address: str

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The series that a query gives now; it must be one that Prometheus understands."""
        answer = httpx.get(f"{self.address}/api/v1/query", params={"query": query}, timeout=30)
        found = answer.json()
        assert found["status"] == "success", f"{query}: {found}"
        return found["data"]["result"]

    def values(self, query: str) -> list[float]:
        return [float(series["value"][1]) for series in self.ask(query)]


@pytest.mark.stated
def test_a_failed_run_reaches_slack_and_every_query_of_the_dashboard_finds_what_it_names(
    production: ProductionWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    missing = [name for name in ("prometheus", "prometheus-alertmanager") if shutil.which(name) is None]
    if missing:
        pytest.skip(
            f"no {' and no '.join(missing)} here: `apt-get install prometheus prometheus-alertmanager`"
        )
    world, name = production, production.project.project
    fill(world, monkeypatch)
    exporter = Exporter(readings(world.instance), keep=KEEP_SECONDS)
    # The first reading imports what it needs.
    list(exporter.collect())
    with (
        in_thread(metrics_app(exporter)) as endpoint,
        in_thread(_prediction_server(name)) as serve,
        hook() as slack,
        _alertmanager(tmp_path, slack) as alertmanager,
        _prometheus(tmp_path, endpoint.address, serve.address, alertmanager) as prometheus,
    ):
        errors = f'visionops_runs_total{{project="{name}", outcome="error"}}'
        _wait(lambda: prometheus.values(errors) == [0])
        run = create_run_for_test(world.instance, tags={run_tags.PROJECT: name})
        world.instance.report_run_failed(run, message="killed")
        _wait(lambda: any("VisionOpsRunErrors" in title for title in _titles(slack, "errors")))
        # The day's drift stands as an alarm in `fill`.
        _wait(lambda: any("VisionOpsDriftAlarm" in title for title in _titles(slack, "errors")))
        told = json.dumps([content for path, content in slack.received if path == "errors"])
        assert f"Runs of {name} ended with an error in the last hour" in told
        assert not _titles(slack, "verdicts"), "nothing was decided"
        _hold_the_dashboard_to(prometheus)
        for rule in _rules(prometheus):
            assert rule["health"] == "ok", rule


def _hold_the_dashboard_to(prometheus: Prometheus) -> None:
    told = {family.name for family in FAMILIES}
    known = told | metrics_of_serve()
    board = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    assert len(queries) > 20
    drawn = set()
    for query in queries:
        named = set(re.findall(r"visionops_[a-z_]+", query))
        families = {metric.removesuffix("_bucket") for metric in named}
        drawn |= families
        assert families and families <= known, query
        # A busy machine may answer one scrape late.
        for metric in sorted(named):
            _wait(partial(prometheus.ask, metric), f"{metric} of {query}")
        asked = query.replace("$project", ".+")
        if "> 0" in query:
            # What is compared with a limit may well be below it.
            prometheus.ask(asked)
        else:
            _wait(partial(prometheus.ask, asked), query)
    # `visionops_project_info` fills the list of projects.
    assert told - drawn == {"visionops_project_info"}
    (project,) = (each for each in board["templating"]["list"] if each["name"] == "project")
    metric, label = re.findall(r"label_values\((\w+), (\w+)\)", project["definition"])[0]
    assert all(label in series["metric"] for series in prometheus.ask(metric))


def _prediction_server(project: str) -> Starlette:
    """What `visionops serve` tells of one request; no model is needed for that."""
    counted = ServingMetrics(project, "all", dict)
    counted.serving(1)
    counted.answered(200, 0.01)

    async def tell(_: Request) -> Response:
        return Response(counted.text(), media_type=CONTENT_TYPE)

    return Starlette(routes=[Route("/metrics", tell)])


def _rules(prometheus: Prometheus) -> list[dict[str, Any]]:
    groups = httpx.get(f"{prometheus.address}/api/v1/rules", timeout=30).json()["data"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _titles(slack: Hook, channel: str) -> list[str]:
    """The titles of Alertmanager's messages on a channel."""
    return [
        attachment["title"]
        for path, content in slack.received
        if path == channel
        for attachment in content["attachments"]
    ]


@contextmanager
def _prometheus(folder: Path, endpoint: str, serve: str, alertmanager: str) -> Iterator[Prometheus]:
    shipped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    for interval in ("scrape_interval", "scrape_timeout", "evaluation_interval"):
        assert interval in shipped["global"]
        shipped["global"][interval] = QUICK
    servers = [{"targets": [serve.removeprefix("http://")]}]
    (folder / "serve-1.yml").write_text(yaml.safe_dump(servers))
    (job,) = (each for each in shipped["scrape_configs"] if each["job_name"] == "visionops")
    _replace(job["static_configs"][0]["targets"], "127.0.0.1:9321", endpoint.removeprefix("http://"))
    (managers,) = shipped["alerting"]["alertmanagers"]
    _replace(managers["static_configs"][0]["targets"], "127.0.0.1:9093", alertmanager)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(shipped))
    shutil.copy(DEPLOY / "prometheus" / "rules.yml", folder / "rules.yml")
    listening = _free_address()
    with _running(
        folder / "prometheus.log",
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={listening}",
    ):
        _wait_until_ready(listening)
        yield Prometheus(f"http://{listening}")


@contextmanager
def _alertmanager(folder: Path, slack: Hook) -> Iterator[str]:
    shipped = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
    for route in (shipped["route"], *shipped["route"]["routes"]):
        route |= {name: QUICK for name in ("group_wait", "group_interval") if name in route}
    for receiver in shipped["receivers"]:
        (webhook,) = receiver["slack_configs"]
        address = folder / f"{receiver['name']}-webhook"
        address.write_text(slack.url(receiver["name"]))
        assert webhook["api_url_file"] == f"/etc/prometheus/visionops-{address.name}"
        webhook["api_url_file"] = str(address)
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(shipped))
    listening = _free_address()
    with _running(
        folder / "alertmanager.log",
        "prometheus-alertmanager",
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alerts'}",
        f"--web.listen-address={listening}",
        "--cluster.listen-address=",
    ):
        _wait_until_ready(listening)
        yield listening


@contextmanager
def _running(log: Path, *command: str) -> Iterator[None]:
    with log.open("wb") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        try:
            yield
        except BaseException:
            print(log.read_text())
            raise
        finally:
            process.terminate()
            process.wait(WITHIN_SECONDS)


def _replace(targets: list[str], shipped: str, ours: str) -> None:
    assert targets == [shipped]
    targets[:] = [ours]


def _free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def _wait_until_ready(listening: str) -> None:
    def ready() -> bool:
        try:
            return httpx.get(f"http://{listening}/-/ready", timeout=5).is_success
        except httpx.TransportError:
            return False

    _wait(ready)


def _wait(holds: Callable[[], object], what: str = "what was waited for") -> None:
    until = time.monotonic() + WITHIN_SECONDS
    while not holds():
        assert time.monotonic() < until, f"{what}: it did not come within {WITHIN_SECONDS} s"
        time.sleep(LOOK_EVERY_SECONDS)
