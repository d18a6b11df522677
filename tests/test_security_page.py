"""SECURITY.md names every limit there is, with the number that the code has and the option that sets it."""

import dataclasses
import re
from typing import Any

import pytest

from edge import reports
from edge.images.bounds import ImageLimits
from lakefs_local.hooks import action_files, hook_runs
from lakefs_local.http.exchange import JSON_BODY_LIMIT
from lakefs_local.serve import DEFAULT_MAX_UPLOAD
from resources.home import ROOT
from tests.test_operations_page import wrong_with
from visionops.diagnosis.checking import KNOWN
from visionops.serving import prediction_app, request_handling
from visionops.serving.webhook import BODY_LIMIT
from visionops_assets.dataset.importing.source_files import SourceLimits
from visionops_assets.monitoring import set_aside, spool_files
from webserver.guard import LEAST_TOKEN, ServerLimits

PAGE = (ROOT / "SECURITY.md").read_text()
# Where things are, who acts, what is told: these limit nobody. Any other variable does.
NO_LIMITS = {
    "VISIONOPS_ACTOR",
    "VISIONOPS_ARTIFACTS",
    "VISIONOPS_COMPUTE_LOGS",
    "VISIONOPS_DEBUG",
    "VISIONOPS_CACHE_KEEPS",
    "VISIONOPS_CACHE_MIB",
    "VISIONOPS_DROP",
    "VISIONOPS_EDGE",
    "VISIONOPS_EDGE_DEVICE",
    "VISIONOPS_EDGE_KEYS",
    "VISIONOPS_EDGE_PIN",
    "VISIONOPS_ERROR_WEBHOOK",
    "VISIONOPS_HOME",
    "VISIONOPS_LOCK_URL",
    "VISIONOPS_PROJECTS",
    "VISIONOPS_SPOOL",
    "VISIONOPS_VERDICT_WEBHOOK",
}
KIB, MIB = 1 << 10, 1 << 20


class Told:
    """Limits that know which of them were asked for."""

    def __init__(self, of: Any) -> None:
        self.of, self.asked = of, set[str]()

    def __getattr__(self, name: str) -> Any:
        self.asked.add(name)
        return getattr(self.of, name)


IMAGE, SOURCE, SERVER = Told(ImageLimits()), Told(SourceLimits()), Told(ServerLimits())
# What the row with this text says by default.
DEFAULTS = {
    "MiB once decoded": [IMAGE.memory / MIB],
    "scans, frames": [IMAGE.scans, IMAGE.frames, IMAGE.directories],
    "seconds of processor time": [IMAGE.seconds, prediction_app.DECODE_SECONDS],
    "times its own size": [SOURCE.times],
    "members, depth": [SOURCE.members, SOURCE.depth, SOURCE.columns],
    "a tar's header": [SOURCE.header / KIB, SOURCE.settings / KIB],
    "to read a table": [SOURCE.value / MIB, SOURCE.text / MIB, SOURCE.table / MIB],
    "KiB of an address": [SERVER.url / KIB, SERVER.headers / KIB, SERVER.header_count],
    "seconds to send": [SERVER.seconds, SERVER.idle, SERVER.connections, (SERVER.held or 0) / MIB],
    "images that wait": [request_handling.MAX_IMAGE_BYTES / MIB, prediction_app.QUEUE],
    "KiB of a body": [BODY_LIMIT / KIB],
    "GiB of an object": [DEFAULT_MAX_UPLOAD / (1 << 30), JSON_BODY_LIMIT / MIB],
    "KiB of an action file": [hook_runs._FILE_LIMIT / KIB, action_files.TOTAL_SECONDS],
    "MiB unpacked": [
        reports.LARGEST_BYTES / MIB,
        reports.LARGEST_TEXT / MIB,
        reports.MOST_TIMES,
        reports.MOST_LINES,
        reports.LONGEST_LINE / MIB,
    ],
    "that are not enrolled, kept aside": [set_aside.UNSIGNED_BYTES / MIB],
    "bytes of a device's name": [
        spool_files.LARGEST_BYTES / MIB,
        spool_files.MOST_ROWS,
        spool_files.LONGEST_DEVICE,
        spool_files.LONGEST_TEXT,
    ],
}


def row(text: str) -> list[str]:
    """The cells of the one row of the limits that has a text."""
    (found,) = [line for line in PAGE.splitlines() if line.startswith("|") and text in line]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_every_variable_that_limits_somebody_stands_in_it():
    assert set(KNOWN) >= NO_LIMITS
    named = set(re.findall(r"`(VISIONOPS_[A-Z_]+)`", PAGE))
    assert named - set(KNOWN) == set()
    assert set(KNOWN) - NO_LIMITS - named == set()


@pytest.mark.parametrize("text", DEFAULTS)
def test_a_limit_is_by_default_what_it_says(text: str):
    said = [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\b(?:\.\d+)?", row(text)[2])]
    assert said == [float(number) for number in DEFAULTS[text]]


def test_a_token_is_as_long_as_it_says():
    assert f"of {LEAST_TOKEN} characters" in row("bearer tokens")[1]


@pytest.mark.parametrize("limits", [IMAGE, SOURCE, SERVER], ids=lambda limits: type(limits.of).__name__)
def test_every_limit_of_the_code_is_told(limits: "Told"):
    # How a refusal names the setting, what each server sets for itself, and how fast a client has to be at least.
    besides = {"seconds_setting", "body", "bytes_per_second"}
    assert {field.name for field in dataclasses.fields(limits.of)} - besides <= limits.asked


def test_what_it_says_to_type_exists_and_what_it_links_to_is_there():
    for option in re.findall(r"`(serve --[\w-]+)", PAGE):
        assert wrong_with(f"visionops {option}") is None, option
    for file, heading in re.findall(r"\]\(([\w./-]+)(?:#([\w-]+))?\)", PAGE):
        text = (ROOT / file).read_text()
        headings = {
            re.sub(r"[^\w -]", "", line.lstrip("# ")).strip().lower().replace(" ", "-")
            for line in text.splitlines()
            if line.startswith("#")
        }
        assert not heading or heading in headings, f"{file}#{heading}"
