"""What ships in `deploy/`: rules that fire when they should, routes, and metrics that exist."""

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from resources.home import ROOT
from visionops.serving.exporter import Exporter
from visionops.serving.metric_families import FAMILIES
from visionops.serving.prediction_app import ServingMetrics

DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
TESTS = ("rules_test.yml", "rules_days_test.yml")
ALERTMANAGER = DEPLOY / "alertmanager" / "alertmanager.yml"
# Prometheus makes this one of each target itself.
ITS_OWN = {"up"}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def metrics_of_serve() -> set[str]:
    """What a prediction server answers at its /metrics."""
    page = ServingMetrics("digits", "all", dict).text().decode()
    return set(re.findall(r"^# HELP (\w+)", page, re.MULTILINE))


def checked(tool: str, *arguments: str | Path, given: bytes = b"") -> str:
    """What a tool of Prometheus says, which must be that all is well."""
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool} here: `apt-get install prometheus prometheus-alertmanager`")
    ended = subprocess.run([tool, *arguments], input=given, capture_output=True, timeout=120)
    assert ended.returncode == 0, (ended.stdout + ended.stderr).decode()
    return ended.stdout.decode()


def test_the_configuration_is_one_that_prometheus_takes():
    checked("promtool", "check", "config", "--lint-fatal", DEPLOY / "prometheus" / "prometheus.yml")


@pytest.mark.slow
@pytest.mark.parametrize("name", TESTS)
def test_rules_fire_when_they_should_and_not_otherwise(name: str):
    checked("promtool", "test", "rules", DEPLOY / "prometheus" / name)


def test_every_rule_is_tested_firing_and_quiet():
    outcomes: dict[str, set[bool]] = {}
    for name in TESTS:
        for test in yaml.safe_load((DEPLOY / "prometheus" / name).read_text())["tests"]:
            for case in test["alert_rule_test"]:
                outcomes.setdefault(case["alertname"], set()).add(bool(case["exp_alerts"]))
    assert outcomes == {rule["alert"]: {True, False} for rule in rules()}


def test_every_rule_reads_metrics_that_exist_and_says_what_to_do():
    known = {family.name for family in FAMILIES} | metrics_of_serve()
    for rule in rules():
        # What stands in quotes is the name of a job.
        named = set(re.findall(r"visionops_[a-z_]+", re.sub(r'"[^"]*"', "", rule["expr"])))
        assert named <= known, rule["alert"]
        assert named or set(re.findall(r"^[a-z]+", rule["expr"])) <= ITS_OWN, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "error", "notice")
        assert set(rule["annotations"]) == {"summary", "action"}


@pytest.mark.parametrize(
    ("severity", "receiver"), [("page", "errors"), ("error", "errors"), ("notice", "verdicts")]
)
def test_alerts_go_where_their_severity_says(severity: str, receiver: str):
    checked("amtool", "check-config", ALERTMANAGER)
    routes = ("config", "routes", "test", f"--config.file={ALERTMANAGER}")
    assert checked("amtool", *routes, f"severity={severity}").split() == [receiver]


def test_no_address_of_a_webhook_stands_in_a_file_that_is_shared():
    for file in DEPLOY.rglob("*.yml"):
        assert "hooks.slack.com" not in file.read_text(), file


def test_prometheus_finds_nothing_amiss_in_names_and_help():
    samples = [family(1, *("x" for _ in family.labels)) for family in FAMILIES]
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Exporter({"all": lambda: samples}))
    assert checked("promtool", "check", "metrics", given=generate_latest(registry)) == ""


def test_the_page_of_the_docs_lists_every_metric_and_rule_and_no_other():
    page = (ROOT / "docs" / "alerts.md").read_text()
    listed = re.findall(r"^\| `(visionops_[a-z_]+)`", page, re.MULTILINE)
    assert listed == [family.name for family in FAMILIES]
    assert set(re.findall(r"VisionOps[A-Z][A-Za-z]+", page)) == {rule["alert"] for rule in rules()}


def test_what_grafana_is_given_calls_no_home():
    settings = configparser.ConfigParser()
    settings.read(DEPLOY / "grafana" / "grafana.ini")
    for name in ("reporting_enabled", "check_for_updates", "check_for_plugin_updates"):
        assert settings.getboolean("analytics", name) is False
    assert settings.getboolean("news", "news_feed_enabled") is False
    assert settings.getboolean("security", "disable_gravatar") is True


def test_the_dashboard_says_what_each_panel_shows_and_puts_none_over_another():
    board = json.loads((DEPLOY / "grafana" / "dashboards" / "visionops.json").read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["type"] == "row" or panel["description"], panel["title"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
