"""The repositories that devices follow: where they lie, one writer at a time; the keys that devices trust
(`visionops fleet keys`); and what devices fetch, as static files over HTTP with Range, for desks and tests.
"""

import email.utils
import functools
import json
import re
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.files import named_path
from resources import home
from resources.settings import Devices
from visionops_assets.config.project import Project, find_project, load_projects

if TYPE_CHECKING:
    from resources.storage import Spool
    from visionops_assets.delivery.devices_now import DeviceNow
    from visionops_assets.delivery.repository import Repository, Running
    from visionops_assets.delivery.signers import Keys

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_PART = 256 * 1024
# Of a project's folder only what is signed, or named by its digest: never what waits for approvers, never a key.
_SERVED = re.compile(r"/([A-Za-z0-9][A-Za-z0-9._-]*)/(blobs|metadata|targets)/([A-Za-z0-9._/-]+)")
_RANGE = re.compile(rb"bytes=(\d*)-(\d*)")
keys_app = typer.Typer(help="The keys that devices trust.", no_args_is_help=True)
# Keys that are elsewhere take people together: they are told of this long before. Of the others, a quarter of a life.
_OFFLINE = {
    "root": "`visionops fleet keys rotate root` with the keys of its owners",
    "targets": "`visionops fleet refresh {project}` with the keys of its owners",
    "bundles": "`visionops fleet publish {project} --group GROUP --anew`, and its approvers",
}


def projects_with_repository() -> list[str]:
    """The projects that have a repository."""
    from resources.storage import ArtifactStore
    from visionops_assets.delivery.tuf_files import TIMESTAMP

    store = ArtifactStore(root=home.edge())
    return [name for name in store.names("") if store.exists(f"{name}/{TIMESTAMP}")]


def declared(project: str) -> Project:
    """The project of that name, or that devices know by it. Raises `ProjectError`."""
    projects = load_projects(home.projects_folder())
    known = next((each for each in projects if each.delivered_as == project), None)
    return known or find_project(projects, project)


def known_as(project: str) -> str:
    """What devices know a project as; the name itself where no file declares it."""
    for each in load_projects(home.projects_folder()):
        if each.project == project:
            return each.delivered_as
    return project


def repository_address(project: str) -> str:
    """Where the repository of a project lies, by any of its names."""
    root, project = home.edge().rstrip("/"), known_as(project)
    return f"{root}/{project}" if "://" in root else str(named_path(root).absolute() / project)


def repository_of(project: str, keys: "Keys | None" = None) -> "Repository":
    """The repository of a project, by any of its names."""
    from visionops_assets.delivery.signers import load_keys

    return _repository(known_as(project), keys or load_keys(project))


def published(known: str) -> "Repository":
    """The repository that devices know by a name (`Project.delivered_as`), to be read: it takes no key."""
    from visionops_assets.delivery.signers import Keys

    return _repository(known, Keys({}))


def _repository(known: str, keys: "Keys") -> "Repository":
    from resources.storage import ArtifactStore
    from visionops_assets.delivery.repository import Repository

    return Repository(ArtifactStore(root=home.edge()), known, keys)


def own_spool() -> str | None:
    """Where a device of this machine leaves reports; a bucket takes none without an address that is signed for it."""
    spool = home.spool()
    return None if "://" in spool else str(named_path(spool).absolute())


def expiries() -> Iterator[tuple[str, dict[str, datetime]]]:
    """Each project's repository, and when what a role signed there ends. Takes no key.

    Raises `CannotPublish` for one that is damaged.
    """
    if "://" not in home.edge() and not Path(home.edge()).is_dir():
        return
    for known in projects_with_repository():
        yield known, published(known).read().expiries()


def enrolled_devices(project: Project, running: "Running") -> "list[DeviceNow]":
    """The devices of a project as their collected reports say they are; `running` is that of its repository."""
    from visionops import services
    from visionops_assets.delivery.devices_now import enrolled_now

    return enrolled_now(project, services.artifacts(), running, datetime.now(UTC))


def waiting_reports(project: str) -> list[str]:
    """That the spool has reports which nobody collected yet, and what does; and what is nobody's there."""
    from visionops import services
    from visionops_assets.monitoring.device_files import is_report

    spool = services.spool()
    waiting = sum(map(is_report, spool.files(project)))
    said = f"{waiting} reports wait in the spool: `visionops tick {project}` or `visionops up` collects them"
    return [*([said] if waiting else []), *_strangers(spool, project)]


def _strangers(spool: "Spool", project: str) -> list[str]:
    found = spool.strangers(project)
    if not found:
        return []
    named = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
    return [
        f"in {spool.root}/{project} is what nobody collects: {named}; delete it, and see who writes there: devices "
        "leave DEVICE/….jsonl.gz, servers DEVICE/….parquet"
    ]


@contextmanager
def changing(project: str, keys: "Keys | None" = None) -> "Iterator[Repository]":
    """A project's repository, while nobody else changes it."""
    from visionops import services
    from visionops_assets.delivery.repository import lock_name

    repository = repository_of(project, keys)
    with services.registry().lock(lock_name(repository.project)):
        yield repository


class EdgeFiles:
    """An ASGI application over the folder of all projects' repositories."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    async def __call__(self, scope: Scope, receive: object, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        if scope["method"] not in ("GET", "HEAD"):
            await _answer(send, 405, [(b"allow", b"GET, HEAD")])
            return
        file = self._file(scope["path"])
        try:
            if file is None:
                raise FileNotFoundError
            with file.open("rb") as stream:
                size = stream.seek(0, 2)
                asked = next((value for name, value in scope["headers"] if name == b"range"), None)
                span = _span(asked, size)
                if span is None:
                    await _answer(send, 416, [(b"content-range", b"bytes */%d" % size)])
                    return
                first, last = span
                headers = _headers(file, last - first)
                if asked is not None:
                    headers.append((b"content-range", b"bytes %d-%d/%d" % (first, last - 1, size)))
                await send(
                    {
                        "type": "http.response.start",
                        "status": 200 if asked is None else 206,
                        "headers": headers,
                    }
                )
                stream.seek(first)
                left = last - first if scope["method"] == "GET" else 0
                while left > 0:
                    part = stream.read(min(_PART, left))
                    left = left - len(part) if part else 0
                    await send({"type": "http.response.body", "body": part, "more_body": left > 0})
                if last == first or scope["method"] == "HEAD":
                    await send({"type": "http.response.body", "body": b""})
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            await _answer(send, 404, [])

    def _file(self, path: str) -> Path | None:
        if _SERVED.fullmatch(path) is None or ".." in path:
            return None
        return self._root / path[1:]


def _span(asked: bytes | None, size: int) -> tuple[int, int] | None:
    """First byte, and the one after the last; None where there is no such part."""
    if asked is None:
        return 0, size
    found = _RANGE.fullmatch(asked.strip())
    if found is None or found.groups() == (b"", b""):
        return None
    first, last = found.groups()
    if not first:
        return (max(0, size - int(last)), size) if int(last) and size else None
    start, end = int(first), min(size, int(last) + 1) if last else size
    return (start, end) if start < end else None


def _headers(file: Path, length: int) -> list[tuple[bytes, bytes]]:
    changing = file.name == "timestamp.json"
    return [
        (b"content-type", b"application/json" if file.suffix == ".json" else b"application/octet-stream"),
        (b"content-length", b"%d" % length),
        (b"accept-ranges", b"bytes"),
        (b"cache-control", b"no-cache" if changing else b"public, max-age=31536000, immutable"),
        (b"last-modified", email.utils.formatdate(file.stat().st_mtime, usegmt=True).encode()),
    ]


async def _answer(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    body = b"" if status == 416 else b"%d\n" % status
    length = (b"content-length", b"%d" % len(body))
    # A root that is not there yet will be: nobody may keep that answer.
    kept = (b"cache-control", b"no-cache")
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length, kept]})
    await send({"type": "http.response.body", "body": body})


def repositories(root: Path) -> Iterator[str]:
    """The projects that devices can follow."""
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if (folder / "metadata" / "timestamp.json").is_file():
            yield folder.name


_SOON, _LAST = timedelta(days=90), timedelta(days=7)


@keys_app.command("init")
def init_keys(
    projects: Annotated[
        list[str] | None, typer.Argument(help="Projects that get a repository for their devices.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Make a key for each role, once, unless VISIONOPS_EDGE_KEYS names one's own; and a repository for each project.

    Keep a copy of the folder in a safe place: who loses root.pem has to provision every device anew.
    """
    from visionops_assets.delivery.signers import keys_folder, load_keys, make_keys

    for project in projects or ():
        declared(project)
    say = functools.partial(typer.echo, err=as_json)
    told: dict[str, Any] = {"keys": None, "made": False, "repositories": []}
    if not Devices.read().keys:
        folder = keys_folder()
        made = make_keys(folder)
        told |= {"keys": str(folder), "made": made}
        say(f"keys of 6 roles {'made' if made else 'are there'} in {folder}; keep a copy in a safe place")
    load_keys()
    for project in projects or ():
        with changing(project) as repository:
            made = repository.create()
        told["repositories"].append({"project": project, "at": repository_address(project), "made": made})
        say(f"{project}: the repository {'is made' if made else 'is there'} in {repository_address(project)}")
    if as_json:
        typer.echo(json.dumps(told, indent=1))


@keys_app.command("show")
def show_keys(
    project: Annotated[str | None, typer.Argument(help="A project, to see when its metadata ends.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show who may sign what, where the keys lie, and when what they signed ends."""
    from visionops_assets.delivery.signers import ROLES, WHAT, load_keys

    keys = load_keys(project or "PROJECT")
    told: dict[str, Any] = {
        role: {"what": WHAT[role], "keys": keys.describe(role), "threshold": keys.roles[role].threshold}
        for role in ROLES
    }
    ends = {} if project is None else repository_of(project).read().expiries()
    if as_json:
        typer.echo(
            json.dumps({"roles": told, "expires": {k: v.isoformat() for k, v in ends.items()}}, indent=1)
        )
        return
    for role, each in told.items():
        typer.echo(f"{role:<10} {each['what']}\n{'':<10} {each['keys']}")
    now = datetime.now(UTC)
    for role, end in sorted(ends.items(), key=lambda each: each[1]):
        assert project is not None
        soon, _ = ending_of_role(project, role, end, now)
        days = (end - now).total_seconds() / 86400
        typer.echo(soon or f"{role:<20} ends {end:%Y-%m-%d %H:%M} UTC, in {days:.1f} days")
    if keys.embedded is not None and "://" in home.edge():
        typer.echo(
            f"warning: each role has one key, on this machine ({keys.embedded}): who has it ships to every device. "
            "docs/delivery.md tells how to keep them apart",
            err=True,
        )


def ending_of_role(project: str, role: str, end: datetime, now: datetime) -> tuple[str, bool]:
    """What to say of a role that ends soon, nothing of others; and whether devices take no news soon without it."""
    from visionops_assets.delivery.tuf_files import life

    how = _OFFLINE.get(role)
    least = _SOON if how is not None else life(role) / 4
    if end - now >= least:
        return "", False
    days = (end - now).total_seconds() / 86400
    when = f"ends {end:%Y-%m-%d %H:%M} UTC, in {days:.1f} days" if days > 0 else f"ended {-days:.1f} days ago"
    signed = (how or "`visionops fleet refresh {project}` where its keys are").format(project=project)
    return f"{role:<20} {when} — sign it anew: {signed}", how is None or end - now < _LAST


@keys_app.command("rotate")
def rotate_keys(
    role: Annotated[str, typer.Argument(help="root, targets, bundles, assign, snapshot or timestamp.")],
    old: Annotated[
        list[str] | None,
        typer.Option(
            "--old",
            metavar="ADDRESS",
            help="A key that goes, to sign the change with; several times for several.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Give a role other keys, in every project's repository; devices follow by themselves.

    With keys made here another one is made. With VISIONOPS_EDGE_KEYS change the file first, then run this. Safe to
    repeat: a change that was interrupted is completed.
    """
    from visionops_assets.delivery import signers

    if role not in signers.ROLES:
        raise typer.BadParameter(
            f"{role} is no role; there are {', '.join(signers.ROLES)}", param_hint="ROLE"
        )
    if not Devices.read().keys and signers.keys_folder().is_dir():
        # First: the key that is there may be lost.
        signers.begin_rotation(signers.keys_folder(), role)
    keys = signers.load_keys()
    going = [signers.key_at(each).signer() for each in old or ()]
    if keys.embedded is not None:
        keys, present = signers.rotating(keys.embedded, role)
        going += present
    say, rotated = functools.partial(typer.echo, err=as_json), list[str]()
    for project in projects_with_repository():
        with changing(project, keys) as repository:
            repository.rotate(role, going)
        rotated.append(project)
        say(f"{project}: {role} is signed by {keys.describe(role)}")
    file = None
    if keys.embedded is not None:
        signers.end_rotation(keys.embedded, role)
        file = str(keys.embedded / f"{role}.pem")
        say(f"the key before is removed; copy {file} to the safe place")
    if as_json:
        typer.echo(
            json.dumps(
                {"role": role, "keys": keys.describe(role), "projects": rotated, "file": file}, indent=1
            )
        )
