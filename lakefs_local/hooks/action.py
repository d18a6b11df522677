"""Reading action files: which hooks run on which events of which branches.

Whoever may upload may write them: a file has no aliases, by which some bytes would become gigabytes, and a bounded size
and depth. Every field is text, a list or a mapping of it.
"""

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import yaml

PREFIX = "_lakefs_actions/"
_SUBJECTS = (
    "commit",
    "merge",
    "create-branch",
    "delete-branch",
    "create-tag",
    "delete-tag",
    "revert",
    "cherry-pick",
)
EVENTS = {"prepare-commit"} | {f"{when}-{subject}" for when in ("pre", "post") for subject in _SUBJECTS}
_DEEPEST, _MOST_NODES, _LONGEST = 16, 10_000, 1024
# The one in C, where PyYAML was built with it, is thirty times as fast.
_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_TYPES = {"webhook", "airflow", "lua"}
_NAME = re.compile(r"\w[\w\-. ]+", re.ASCII)
_HOOK_ID = re.compile(r"[_a-zA-Z][\-_a-zA-Z0-9]{1,255}")


class InvalidAction(ValueError):
    """An action file says something that lakeFS does not accept."""


@dataclass(frozen=True)
class Hook:
    """One call of an action. `condition` is lakeFS's `if`."""

    id: str
    type: str
    properties: dict[str, Any]
    condition: str = ""


@dataclass(frozen=True)
class Action:
    """`events` gives each event's branch patterns; an empty list means every branch."""

    name: str
    events: dict[str, list[str]] = field(default_factory=dict)
    hooks: list[Hook] = field(default_factory=list)

    def matches(self, event: str, branch: str) -> bool:
        """Whether the action runs on an event of a branch."""
        patterns = self.events.get(event)
        return patterns is not None and (
            not patterns or any(fnmatchcase(branch, pattern) for pattern in patterns)
        )


def parse(data: bytes) -> Action:
    """Read one action file. Raises InvalidAction."""
    try:
        _check_size(data)
        # Every value as text: otherwise YAML reads the key `on` as true.
        content = yaml.load(data, Loader=_LOADER)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as problem:
        raise InvalidAction(f"yaml: {problem}") from None
    if not isinstance(content, dict):
        raise InvalidAction("'name' is required: invalid action")
    name = content.get("name")
    if not isinstance(name, str) or not name or len(name) > _LONGEST:
        raise InvalidAction("'name' is required: invalid action")
    if not _NAME.fullmatch(name):
        raise InvalidAction("'name' is invalid: invalid action")
    return Action(name, _events(content.get("on")), _hooks(content.get("hooks") or []))


def _check_size(data: bytes) -> None:
    """Refuse what would take much to build, before it is built. Raises InvalidAction and what YAML raises."""
    depth = nodes = 0
    for event in yaml.parse(data, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise InvalidAction("yaml: aliases are not supported: write out what they stand for")
        nodes += isinstance(event, yaml.NodeEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST or nodes > _MOST_NODES:
            raise InvalidAction(
                f"yaml: deeper than {_DEEPEST} or more than {_MOST_NODES} values: invalid action"
            )


def _text(value: Any, what: str) -> str:
    """A field that is text, empty where there is none."""
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise InvalidAction(f"{what} is not a text of up to {_LONGEST} characters: invalid action")
    return value


def _events(content: Any) -> dict[str, list[str]]:
    if not isinstance(content, dict) or not content:
        raise InvalidAction("'on' is required: invalid action")
    events = {}
    for event, scope in content.items():
        if event not in EVENTS:
            raise InvalidAction(f"event '{str(event)[:100]}' is not supported: invalid action")
        patterns = (scope.get("branches") if isinstance(scope, dict) else None) or []
        if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
            raise InvalidAction(f"'branches' of event '{event}' is not a list of patterns: invalid action")
        if patterns and event.endswith("-tag"):
            raise InvalidAction("'branches' is not supported in tag event types. invalid event parameter")
        events[event] = patterns
    return events


def _hooks(content: Any) -> list[Hook]:
    if not isinstance(content, list):
        raise InvalidAction("'hooks' is not a list: invalid action")
    hooks: list[Hook] = []
    for number, item in enumerate(content):
        fields = item if isinstance(item, dict) else {}
        hook_id, kind = _text(fields.get("id"), f"'id' of hook[{number}]"), fields.get("type")
        if not _HOOK_ID.fullmatch(hook_id):
            raise InvalidAction(f"hook[{number}] missing ID: invalid action")
        if any(hook.id == hook_id for hook in hooks):
            raise InvalidAction(f"hook[{number}] duplicate ID '{hook_id}': invalid action")
        if not isinstance(kind, str) or kind not in _TYPES:
            raise InvalidAction(f"hook[{number}] type '{hook_id}' unknown: invalid action")
        properties = fields.get("properties")
        condition = _text(fields.get("if"), f"'if' of hook[{number}]")
        hooks.append(Hook(hook_id, kind, properties if isinstance(properties, dict) else {}, condition))
    return hooks
