"""What a device believes: TUF by python-tuf, and floors of its own that outlive TUF's cache.

Beyond TUF a device checks that an assignment is for its project and group, that nothing signed by the same keys goes
back (versions, the assignment's serial), and that no date is absurd. Its clock never counts for earlier than what was
last signed, or than what it said when it was known to be right. Floors are kept per role's key ids and fall when root
gives that role other keys, so that what a stolen key left behind ends with the key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from tuf.api import exceptions
from tuf.api.metadata import Root, Targets
from tuf.ngclient.updater import Updater

from edge import EdgeError
from edge.fetch import Client, Unreachable
from edge.files import Files
from edge.formats import Assignment, FormatError, Manifest, assignment_of, manifest_of

FORMAT = 1
ROOT, FLOORS, CACHE = "trust/root.json", "trust/floors.json", "trust/cache"
# A date beyond it is no date of a publisher, whatever the clock says.
LATEST = datetime(2036, 1, 1, tzinfo=timezone.utc)
AHEAD = timedelta(hours=24)


class Distrusted(EdgeError, ValueError):
    """A repository says what this device does not take. `problem` is one word for reports."""

    def __init__(self, problem: str, said: str) -> None:
        super().__init__(said)
        self.problem = problem


@dataclass(frozen=True)
class Looked:
    """What a repository says now: the group's assignment and the manifests it names."""

    assignment: Assignment
    manifests: Mapping[str, Manifest]
    # The highest that was asked for by the same keys: a stolen one cannot lower it.
    floor: int


class Trust:
    """One project's repository as one device sees it. `bootstrap` is the root that the device was provisioned with."""

    def __init__(self, files: Files, client: Client, repository: str, project: str, bootstrap: bytes) -> None:
        self._files, self._client, self._project = files, client, project
        self._url, self._bootstrap = repository.rstrip("/"), bootstrap

    def blob_url(self, sha256: str) -> str:
        """Where a file lies in the repository."""
        return f"{self._url}/blobs/{sha256}"

    def look(self, group: str, now: datetime, *, synchronised: bool = False) -> Looked:
        """Ask the repository. `synchronised`: the clock that says `now` is known to be right.

        Raises `Distrusted`, and `Unreachable` where nothing answers; both change nothing of what was believed.
        """
        floors = _Floors(self._files.read(FLOORS))
        if synchronised and floors.saw(now):
            floors.save(self._files)
        now = max(now, floors.known or now)
        reference = max(now, floors.clock or now)
        try:
            updater = self._refreshed(reference)
        except Distrusted as error:
            if error.problem != "expired" or reference == now:
                raise
            # The clock's floor came with keys that may be gone: see what they are now, then judge.
            updater = self._refreshed(now)
            if floors.clock_holds(_keys(updater, _assign(group), group)):
                raise
        with _in_words():
            found = self._target(updater, f"groups/{group}/assignment.json")
        if found is None:
            raise Distrusted(
                "no_assignment",
                f"nothing is assigned to group {group} yet: `visionops fleet publish {self._project} --group {group}`",
            )
        assignment = _assignment(found, self._project, group, now, synchronised)
        self._raise_floors(floors, updater, assignment)
        manifests = {}
        for bundle in filter(None, (assignment.base, assignment.candidate)):
            with _in_words():
                content = self._target(updater, f"bundles/{bundle}.json")
            if content is None:
                raise Distrusted(
                    "unsigned", f"bundle {bundle[:12]} is assigned, but approvers did not sign it"
                )
            manifests[bundle] = _manifest(content, bundle, self._project)
        if manifests[assignment.base].release != assignment.base_release:
            raise Distrusted("altered", "the assignment names another release of its base than the base does")
        floors.save(self._files)
        return Looked(assignment, manifests, floors.least(f"floor of {group}"))

    def _refreshed(self, reference: datetime) -> Updater:
        root = self._files.read(ROOT) or self._bootstrap
        if not root:
            raise Distrusted("no_root", "the device has no root of trust: provision it anew")
        cache = self._files.folder(CACHE)
        with _in_words():
            updater = Updater(
                str(cache),
                f"{self._url}/metadata/",
                str(cache),
                f"{self._url}/targets/",
                fetcher=self._client,
                bootstrap=root,
            )
            # No public way to say what time it is (tuf<8 is pinned, and a test holds it).
            updater._trusted_set.reference_time = reference
            try:
                updater.refresh()
            finally:
                self._keep_root(updater, root)
        return updater

    def _keep_root(self, updater: Updater, known: bytes) -> None:
        """TUF's cache may be lost at any time, the newest root may not."""
        version = updater._trusted_set.root.version
        if version != json.loads(known)["signed"]["version"]:
            name = f"{CACHE}/root_history/{version}.root.json"
            content = self._files.read(name)
            if content is not None:
                self._files.write(ROOT, content)

    def _target(self, updater: Updater, path: str) -> bytes | None:
        info = updater.get_targetinfo(path)
        if info is None:
            return None
        file = updater.find_cached_target(info) or updater.download_target(info)
        return Path(file).read_bytes()

    def _raise_floors(self, floors: _Floors, updater: Updater, assignment: Assignment) -> None:
        trusted, assign = updater._trusted_set, _assign(assignment.group)
        for role in ("timestamp", "snapshot", "targets", assign):
            floors.raise_to(role, _keys(updater, role, assignment.group), trusted[role].version)
        keys = _keys(updater, assign, assignment.group)
        floors.raise_to(f"serial of {assignment.group}", keys, assignment.serial)
        floors.raise_to(f"floor of {assignment.group}", keys, assignment.floor, lower=True)
        floors.raise_clock(keys, assignment.issued_at)


class _Floors:
    """The least that is taken of each role, signed by the same keys."""

    def __init__(self, content: bytes | None) -> None:
        self._before = content
        self._roles: dict[str, Any] = {}
        self._clock: dict[str, Any] = {}
        self._known: str | None = None
        try:
            found = json.loads(content) if content else {}
            if found.get("format") == FORMAT:
                self._roles, self._clock = dict(found["roles"]), dict(found["clock"])
                self._known = found.get("known")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # A bad disk: TUF's own cache still knows versions, and the next look writes the floors anew.
            pass

    @property
    def clock(self) -> datetime | None:
        """The latest date that was signed."""
        return datetime.fromisoformat(self._clock["at"]) if self._clock else None

    @property
    def known(self) -> datetime | None:
        """When a clock that was known to be right was seen last, to a day."""
        return datetime.fromisoformat(self._known) if self._known else None

    def saw(self, now: datetime) -> bool:
        """A clock that is known to be right says `now`; True where that is worth a write."""
        if self.known is not None and now < self.known + timedelta(days=1):
            return False
        self._known = now.isoformat()
        return True

    def clock_holds(self, keys: str) -> bool:
        """Whether the clock's floor came with these keys."""
        return bool(self._clock) and self._clock["keys"] == keys

    def least(self, role: str) -> int:
        """A floor as it is."""
        return int(self._roles[role]["version"])

    def raise_to(self, role: str, keys: str, version: int, *, lower: bool = False) -> None:
        """Raise a floor; raises `Distrusted` where the version is below it, or leaves it where that is no lie."""
        floor = self._roles.get(role)
        if floor is not None and floor["keys"] == keys and version < floor["version"]:
            if lower:
                return
            raise Distrusted("replay", f"{role} is {version}, {floor['version']} was seen: a replay")
        self._roles[role] = {"keys": keys, "version": version}

    def raise_clock(self, keys: str, at: datetime) -> None:
        if not self.clock_holds(keys) or datetime.fromisoformat(self._clock["at"]) < at:
            self._clock = {"keys": keys, "at": at.isoformat()}

    def save(self, files: Files) -> None:
        told = {"format": FORMAT, "roles": self._roles, "clock": self._clock, "known": self._known}
        content = json.dumps(told, sort_keys=True).encode()
        if content != self._before:
            files.write(FLOORS, content)
            self._before = content


class _in_words:
    """Turns python-tuf's errors into `Distrusted` and `Unreachable`."""

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, exceptions.ExpiredMetadataError):
            raise Distrusted("expired", f"the repository's metadata is too old: {error}") from error
        if isinstance(error, exceptions.BadVersionNumberError):
            raise Distrusted("replay", f"the repository went back: {error}") from error
        if isinstance(error, exceptions.UnsignedMetadataError):
            raise Distrusted("unsigned", f"a signature is missing: {error}") from error
        if isinstance(error, exceptions.DownloadError):
            cause = error.__cause__ if isinstance(error.__cause__, Unreachable) else error
            raise Unreachable(str(cause)) from error
        if isinstance(error, exceptions.RepositoryError | ValueError | KeyError):
            raise Distrusted(
                "altered", f"the repository's metadata is not what was signed: {error}"
            ) from error


def _assign(group: str) -> str:
    return f"assign-{group}"


def _keys(updater: Updater, role: str, group: str) -> str:
    root: Root = updater._trusted_set.root
    if role in root.roles:
        ids: Iterable[str] = root.roles[role].keyids
    else:
        targets: Targets = updater._trusted_set.targets
        delegations = targets.delegations
        known = delegations.roles if delegations is not None and delegations.roles is not None else {}
        if role not in known:
            raise Distrusted(
                "no_assignment", f"the repository has no group {group}: publish to it, or move the device"
            )
        ids = known[role].keyids
    return ",".join(sorted(ids))


def _assignment(data: bytes, project: str, group: str, now: datetime, synchronised: bool) -> Assignment:
    try:
        found = assignment_of(data)
    except FormatError as error:
        raise Distrusted("format", str(error)) from error
    if (found.project, found.group) != (project, group):
        raise Distrusted(
            "foreign",
            f"the assignment is for {found.project}, group {found.group}; this device is of {project}, group {group}",
        )
    if found.issued_at > LATEST or (synchronised and found.issued_at > now + AHEAD):
        raise Distrusted(
            "future", f"the assignment is dated {found.issued_at:%Y-%m-%d %H:%M}, it is {now:%Y-%m-%d %H:%M}"
        )
    return found


def _manifest(data: bytes, bundle: str, project: str) -> Manifest:
    try:
        found = manifest_of(data, bundle)
    except FormatError as error:
        raise Distrusted("format", str(error)) from error
    if found.project != project:
        raise Distrusted(
            "foreign", f"bundle {bundle[:12]} is of project {found.project}, this device is of {project}"
        )
    return found
