"""What MLflow last said of a project, kept beside the tables: what somebody deletes or moves there is known here.

One file a project in the artifact store, `registry/<project>.json`, written whole after each change that we make or
see. It forgets nothing: history, decisions and answers are written once, whatever somebody makes of their tags, and a
version that is gone was one, whatever has its number now.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from resources.models.records import EVERYWHERE, HISTORY, TAG_ONNX, TAG_WEIGHTS, ModelVersion, alias_of
from resources.storage import ArtifactStore

FORMAT = 1
# Of a registered model and its versions; what people write beside it is theirs.
_OURS = ("visionops.", "dagster.")
# Numbered entries; those that people make up have no such number.
_WRITTEN_ONCE = re.compile(r"visionops\.[a-z_]+\.\d{6}")
# What makes a version the model that it is.
_IDENTITY = (TAG_WEIGHTS, TAG_ONNX)
# Entries of the history that change nothing that runs.
_NO_CHANGE = ("hold", "release")


@dataclass(frozen=True)
class Remembered:
    """A project's entry as it was last seen. `aliases` are those that agreed with the history.

    `assumed` are those of them that only the history says: they named something else when they were seen first.
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[int, ModelVersion] = field(default_factory=dict)
    assumed: frozenset[str] = frozenset()

    @classmethod
    def seen_first(cls, tags: Mapping[str, str], aliases: Mapping[str, int]) -> "Remembered":
        """What is taken for known of a project that was never seen: that its changes arrived, as nearly all do."""
        newest = {alias: version for alias, version in _newest(tags).items() if version is not None}
        return cls({}, newest, {}, frozenset(newest) - frozenset(agreed(tags, aliases)))

    def with_these(
        self,
        tags: Mapping[str, str] | None = None,
        aliases: Mapping[str, int | None] | None = None,
        versions: Mapping[int, ModelVersion] | None = None,
    ) -> "Remembered":
        """With what was seen since. An alias of None was taken away."""
        named = {**self.aliases, **(aliases or {})}
        seen = {number: self.filled(each) for number, each in (versions or {}).items()}
        return Remembered(
            {**self.tags, **_ours(tags or {})},
            {alias: version for alias, version in named.items() if version is not None},
            {
                **self.versions,
                **{number: replace(each, tags=_ours(each.tags)) for number, each in seen.items()},
            },
            self.assumed - frozenset(aliases or {}),
        )

    def altered(self, tags: Mapping[str, str]) -> frozenset[str]:
        """The entries that somebody wrote anew."""
        return frozenset(
            key
            for key, value in tags.items()
            if _WRITTEN_ONCE.fullmatch(key) and self.tags.get(key, value) != value
        )

    def is_relabelled(self, version: ModelVersion) -> bool:
        """Whether somebody gave a version, as MLflow has it, other digests."""
        known = self.versions.get(version.version)
        if known is None or known.run_id != version.run_id:
            return False
        return any(version.tags.get(key, known.tags.get(key)) != known.tags.get(key) for key in _IDENTITY)

    def is_another(self, version: ModelVersion) -> bool:
        """Whether a version is another model than the one that had its number."""
        known = self.versions.get(version.version)
        if known is None or not known.weights_sha256 or known.run_id == version.run_id:
            return False
        return known.weights_sha256 != version.weights_sha256

    def filled(self, version: ModelVersion) -> ModelVersion:
        """A version as MLflow has it, with tags that it lost there, and the digests that it was registered with."""
        known = self.versions.get(version.version)
        if known is None or known.run_id != version.run_id:
            return version
        identity = {key: known.tags[key] for key in _IDENTITY if key in known.tags}
        return replace(version, tags={**known.tags, **version.tags, **identity})


@dataclass(frozen=True)
class ModelMemory:
    """Where it is kept; with no `root` nothing is remembered.

    What cannot be read is as if it had never been written, and what cannot be written stops nobody: MLflow says what
    is so, and a read-only home can be looked at.
    """

    root: str | None = None

    def read(self, project: str) -> Remembered | None:
        """What is remembered of a project; None where it was never seen."""
        if self.root is None:
            return None
        try:
            content = ArtifactStore(root=self.root).read_json(_key(project))
            return _remembered(project, content)
        except Exception:  # A bucket's errors share no base, and no rollback waits for it.
            return None

    def write(self, project: str, remembered: Remembered) -> None:
        """Keep what was seen, whole or not at all."""
        if self.root is None:
            return
        try:
            ArtifactStore(root=self.root).write_json(_key(project), _content(remembered))
        except Exception:  # As above.
            return

    def note(self, project: str, **seen: Any) -> None:
        """Add one change, as `Remembered.with_these` takes it."""
        if self.root is not None:
            self.write(project, (self.read(project) or Remembered()).with_these(**seen))

    def rename(self, project: str, name: str) -> None:
        """What is remembered of a project is another name's, beside what was seen under that since."""
        known = self.read(project)
        if known is None or self.root is None:
            return
        versions = {number: _record(name, number, _version(each)) for number, each in known.versions.items()}
        since = self.read(name) or Remembered()
        renamed = replace(known, versions=versions)
        self.write(name, renamed.with_these(since.tags, since.aliases, since.versions))
        ArtifactStore(root=self.root).path(_key(project)).unlink(missing_ok=True)


def agreed(tags: Mapping[str, str], aliases: Mapping[str, int]) -> dict[str, int]:
    """The aliases that name what the newest change in the history says."""
    newest = _newest(tags)
    return {alias: version for alias, version in aliases.items() if newest.get(alias) == version}


def _newest(tags: Mapping[str, str]) -> dict[str, int | None]:
    """What each alias named after the newest change in the history."""
    newest: dict[str, int | None] = {}
    for name in sorted(tag for tag in tags if tag.startswith(HISTORY)):
        try:
            entry = json.loads(tags[name])
            if entry["kind"] not in _NO_CHANGE:
                newest[alias_of(entry.get("group", EVERYWHERE))] = entry["to"]
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return newest


def _ours(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in tags.items() if key.startswith(_OURS)}


def _key(project: str) -> str:
    return f"registry/{project}.json"


def _content(remembered: Remembered) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "tags": dict(remembered.tags),
        "aliases": dict(remembered.aliases),
        "versions": {str(number): _version(each) for number, each in remembered.versions.items()},
        **({"assumed": sorted(remembered.assumed)} if remembered.assumed else {}),
    }


def _version(each: ModelVersion) -> dict[str, Any]:
    return {"run_id": each.run_id, "created": each.created.isoformat(), "tags": _ours(each.tags)}


def _remembered(project: str, content: Any) -> Remembered | None:
    if content["format"] != FORMAT:
        return None
    versions = {
        int(number): _record(project, int(number), each) for number, each in content["versions"].items()
    }
    assumed = frozenset(content.get("assumed", ()))
    return Remembered(content["tags"], content["aliases"], versions, assumed)


def _record(project: str, number: int, each: Mapping[str, Any]) -> ModelVersion:
    return ModelVersion(
        project, number, each["run_id"], datetime.fromisoformat(each["created"]), each["tags"]
    )
