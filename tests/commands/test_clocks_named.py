"""Clocks of services that are more than a minute off are named by `doctor`, by `tick` and by a metric."""

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from dagster._core.test_utils import create_run_for_test
from desk import Desk
from typer.testing import CliRunner

from resources import clocks as ours
from tests.operations_table import require_told
from visionops import services
from visionops.diagnosis import disks_and_clock
from visionops.diagnosis.checking import Row, rows
from visionops.serving.exporter import clock_samples
from visionops_assets.common import run_tags


@contextmanager
def serving(ahead: timedelta | None) -> Iterator[str]:
    """The address of a server whose clock is ahead, or that dates no answer."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(403)
            self.end_headers()

        def send_header(self, keyword: str, value: str) -> None:
            if keyword == "Date" and ahead is None:
                return
            super().send_header(keyword, value)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return format_datetime(datetime.now(UTC) + (ahead or timedelta(0)), usegmt=True)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def looked_at(desk: Desk) -> dict[str, Row]:
    return {row.subject: row for row in rows(disks_and_clock.clock_checks(desk.world.projects))}


@pytest.mark.parametrize(
    ("seconds", "state"), [(0, "ok"), (50, "ok"), (90, "warning"), (-90, "warning"), (3600, "broken")]
)
def test_doctor_names_a_clock_that_is_off(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, seconds: int, state: str
):
    with serving(timedelta(seconds=seconds)) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        row = looked_at(desk)["clock"]
    assert row.state == state
    if state != "ok":
        # Whole seconds of two clocks, read one after the other.
        far = r"(8[89]|9[0-2]) s" if abs(seconds) == 90 else "(59|60) min"
        assert re.search(rf"s3 \({re.escape(address)}\) is {far}", row.what)
        assert ("behind this machine" in row.what) == (seconds < 0)
        assert "timedatectl" in row.fix


def test_tick_names_it_and_goes_on(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    from visionops.cli.command_line import app

    with serving(timedelta(seconds=90)) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        ended = CliRunner().invoke(app, ["tick", "shapes", "--json"], catch_exceptions=False)
    assert ended.exit_code == 0
    named = rf"warning: the clock of s3 \({re.escape(address)}\) is (8[89]|9[0-2]) s ahead of this machine's"
    require_told("a server's clock and this machine's", ended.stderr)
    assert re.search(named, ended.stderr)
    assert "warning" not in ended.stdout


def test_a_metric_tells_how_far_a_clock_is_ahead(monkeypatch: pytest.MonkeyPatch):
    with serving(timedelta(seconds=90)) as ahead, serving(timedelta(seconds=-3600)) as behind:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", ahead)
        monkeypatch.setenv("AWS_ENDPOINT_URL", behind)
        found = {sample.labels: sample.value for sample in clock_samples("mlflow", "s3", "dagster")}
    assert found == {("mlflow",): pytest.approx(90, abs=2), ("s3",): pytest.approx(-3600, abs=2)}


def test_what_is_away_or_tells_no_time_is_left_out(monkeypatch: pytest.MonkeyPatch):
    with serving(None) as silent:
        nobody = {"mlflow": "http://127.0.0.1:9", "dagster": "postgresql://127.0.0.1:9/x", "s3": silent}
        assert list(services.skews(nobody)) == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////srv/mlflow.db")
    assert "mlflow" not in services.services_with_clocks(), "it has this machine's clock"


def test_one_server_of_two_services_is_asked_once(monkeypatch: pytest.MonkeyPatch):
    for name in ("DAGSTER_POSTGRES_URL", "VISIONOPS_LOCK_URL"):
        monkeypatch.setenv(name, "postgresql://db/dagster")
    assert services.services_with_clocks() == {"dagster": "postgresql://db/dagster"}


def test_doctor_names_what_is_dated_in_the_future(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DAGSTER_HOME", str(desk.world.instance.root_directory))
    desk.world.publish("week-01", 12, seed=1)
    assert looked_at(desk)["dates"].state == "ok"
    create_run_for_test(desk.world.instance, tags={run_tags.PROJECT: "shapes"})
    yesterday = datetime.now(UTC) - timedelta(days=1)
    monkeypatch.setattr(ours, "now", lambda: yesterday)
    row = looked_at(desk)["dates"]
    head = desk.world.lakefs.head("shapes")
    assert row.state == "warning"
    assert f"commit {head.id[:12]} of shapes/main is dated in 24 h" in row.what
    assert "of shapes is dated in 24 h" in row.what.partition(";")[2]
