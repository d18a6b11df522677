"""Variables of the environment as a row shows them, and those that nothing reads."""

import difflib
import os
from collections.abc import Iterator

from resources import telemetry
from resources.masking import HIDDEN, is_secret, shown
from resources.secret_files import SUFFIX
from visionops.diagnosis.checking import Check, Finding, broken, ok, warning

# All that VisionOps reads; docs/deploy.md tells of each.
KNOWN = (
    "VISIONOPS_ACTOR",
    "VISIONOPS_ARTIFACTS",
    "VISIONOPS_CACHE_KEEPS",
    "VISIONOPS_CACHE_MIB",
    "VISIONOPS_COMPUTE_LOGS",
    "VISIONOPS_DEBUG",
    "VISIONOPS_DROP",
    "VISIONOPS_EDGE",
    "VISIONOPS_EDGE_DEVICE",
    "VISIONOPS_EDGE_KEYS",
    "VISIONOPS_EDGE_PIN",
    "VISIONOPS_ERROR_WEBHOOK",
    "VISIONOPS_HOME",
    "VISIONOPS_IMAGE_DIRECTORIES",
    "VISIONOPS_IMAGE_FRAMES",
    "VISIONOPS_IMAGE_MIB",
    "VISIONOPS_IMAGE_SCANS",
    "VISIONOPS_IMAGE_SECONDS",
    "VISIONOPS_IMAGE_WORKERS",
    "VISIONOPS_LOCK_URL",
    "VISIONOPS_METRICS_TOKEN",
    "VISIONOPS_PROJECTS",
    "VISIONOPS_SERVE_TOKEN",
    "VISIONOPS_SOURCE_COLUMNS",
    "VISIONOPS_SOURCE_DEPTH",
    "VISIONOPS_SOURCE_HEADER_KIB",
    "VISIONOPS_SOURCE_MEMBERS",
    "VISIONOPS_SOURCE_SETTINGS_KIB",
    "VISIONOPS_SOURCE_TABLE_MIB",
    "VISIONOPS_SOURCE_TEXT_MIB",
    "VISIONOPS_SOURCE_TIMES",
    "VISIONOPS_SOURCE_VALUE_MIB",
    "VISIONOPS_SPOOL",
    "VISIONOPS_VERDICT_WEBHOOK",
    "VISIONOPS_WEBHOOK_TOKEN",
)


def setting(*names: str, otherwise: str) -> str:
    """Variables with their values, secrets hidden; `otherwise` says what holds where none of them is set."""
    given = [f"{name}={_shown(name)}" for name in names if os.environ.get(name)]
    return ", ".join(given) or f"{names[0]} is not set: {otherwise}"


def checks() -> Iterator[Check]:
    """Who makes changes, the keys of a lakeFS of one's own, and variables that nobody reads."""
    yield Check(
        "actor",
        setting("VISIONOPS_ACTOR", otherwise="nobody is named"),
        "read it",
        "export VISIONOPS_ACTOR=you@example.com",
        _actor,
    )
    yield Check("variables", "VISIONOPS_…", "compared with those that are read", "correct it", _unknown)
    yield Check(
        "telemetry",
        f"{len(telemetry.SWITCHES)} switches, from DO_NOT_TRACK on",
        "read each",
        "unset what switches it on",
        _telemetry,
    )
    if os.environ.get("LAKEFS_ENDPOINT"):
        names = ("LAKEFS_ACCESS_KEY_ID", "LAKEFS_SECRET_ACCESS_KEY")
        yield Check(
            "lakeFS key", setting(*names, otherwise="no key"), "read it", f"export {names[0]}=…", _key
        )


def _shown(name: str) -> str:
    return HIDDEN if is_secret(name) else shown(os.environ[name], HIDDEN)


def _actor() -> Finding:
    actor = os.environ.get("VISIONOPS_ACTOR", "").strip()
    if actor:
        return ok(f"changes by hand are recorded as {actor}'s")
    return warning(
        "VISIONOPS_ACTOR is not set: approve, rollback, retract and hold are refused",
        "export VISIONOPS_ACTOR=you@example.com",
    )


def _unknown() -> Finding:
    """What is misspelt is silently not set."""
    known = set(KNOWN)
    strange = sorted(
        name
        for name in os.environ
        if name.startswith("VISIONOPS_") and name not in known and name.removesuffix(SUFFIX) not in known
    )
    if not strange:
        return ok("each that is set is read")
    fixes = []
    for name in strange:
        near = difflib.get_close_matches(name, KNOWN, n=1)
        fixes.append(f"write {near[0]} for {name}" if near else f"unset {name}")
    return warning(f"nothing reads {', '.join(strange)}", "; ".join(fixes))


def _telemetry() -> Finding:
    left = telemetry.left_on()
    if left:
        set_to = ", ".join(f"{name}={os.environ[name]}" for name in left)
        return warning(f"somebody may be told of this machine: {set_to}", f"unset {' '.join(left)}")
    return ok("nothing phones home")


def _key() -> Finding:
    wanted = ("LAKEFS_ACCESS_KEY_ID", "LAKEFS_SECRET_ACCESS_KEY")
    missing = [name for name in wanted if not os.environ.get(name)]
    if missing:
        return broken(f"{' and '.join(missing)} not set", f"export {missing[0]}=…")
    return ok("both halves are set")
