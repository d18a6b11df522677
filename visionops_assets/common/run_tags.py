"""Tags that runs carry: one home for their names and what they mean."""

import datetime
import socket
from collections.abc import Mapping
from typing import Literal

from resources.settings import Dagster

PROJECT = "visionops/project"
COMMIT = "visionops/commit"
TRAINING_VERSION = "visionops/training_version"
# The beginning of the digest of the gate's rules that a decision was asked under.
RULES = "visionops/rules"
INTENT = "visionops/intent"
ATTEMPT = "visionops/attempt"
HOST = "visionops/host"
OUTCOME = "visionops/outcome"
# Why it ended so, in short.
REASON = "visionops/reason"
LEAVING = "visionops/leaving"
# What a run is about: the batches of a commit, with commas between them; a production day; the ISO week of either.
BATCH = "visionops/batch"
DAY = "visionops/day"
WEEK = "visionops/week"
DROP = "visionops/drop"
# The MLflow run that takes the place of a training.
SUBMITTED = "visionops/submitted"
# A person had it tried again: what went wrong with this run counts no more.
AGAIN = "visionops/again"
# The machine was to blame, as by a full disk: what it said. An error, and no attempt that counts.
MACHINE = "visionops/machine"
# What a publication to devices is about: the beginning of the digest of what was due.
DELIVERY = "visionops/delivery"
# Which webhook was told how the run ended.
ANNOUNCED = "visionops/announced"

DECISION = "decision"
# Dagster's own.
BACKFILL = "dagster/backfill"
PARTITION = "dagster/partition"

PROMOTED = "promoted"
REFUSED = "refused"
INSUFFICIENT = "insufficient"
AWAITING_APPROVAL = "awaiting_approval"
ERROR = "error"
# Stopped by a signal, as by Ctrl-C: no error, and no attempt that counts.
INTERRUPTED = "interrupted"

PUBLISHED = "published"
UNCHANGED = "unchanged"

LOGGED = "logged"

DELIVERED = "delivered"

# What a run can end with.
OUTCOMES = (
    PROMOTED,
    REFUSED,
    INSUFFICIENT,
    AWAITING_APPROVAL,
    ERROR,
    INTERRUPTED,
    PUBLISHED,
    UNCHANGED,
    LOGGED,
    DELIVERED,
)
# The check of a production day that its log is whole; a run's reason is taken from it.
LOG_IS_COMPLETE = "log_is_complete"


def rules_tag(digest: str) -> str:
    """The rules of a gate, as runs carry them."""
    return digest[:16]


def week_of(day: datetime.date) -> str:
    """The ISO week of a day (UTC where it is a moment), as 2026-W48."""
    if isinstance(day, datetime.datetime):
        day = day.astimezone(datetime.UTC)
    return f"{day:%G-W%V}"


def host() -> str:
    """This machine, as runs record it."""
    return socket.gethostname()[:63]


def run_page(run_id: str) -> str:
    """The page of a run in Dagster's UI."""
    page = Dagster.read().ui_url.rstrip("/")
    return f"{page}/runs/{run_id}"


def kind_of_run(tags: Mapping[str, str]) -> Literal["decision", "what_if"]:
    """Which runs decide: those that say so, as the sensor's do, and never a backfill, whatever tags it copies.

    A decision spends significance and may promote; a what-if does neither.
    """
    may_promote = tags.get(INTENT) == DECISION and BACKFILL not in tags
    return "decision" if may_promote else "what_if"


def how_to_have_a_decision(project: str) -> str:
    """What a person does to have a decision on a challenger where no sensor asks for it."""
    return (
        f"`visionops submit {project} RUN` has its run evaluated on the newest dataset version; for another one, run "
        f"the job `{project}_decide` on it with the tag `{INTENT}: {DECISION}`"
    )
