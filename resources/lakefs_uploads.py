"""Uploading many objects: several in a request where the server takes them so, else one by one in several threads.

The embedded server makes the objects of one request durable together; a lakeFS has no such operation.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote

from resources.lakefs_connection import LakeFSConnection

Write = Callable[[str, str, str, bytes], None]
Load = Callable[[], bytes]
Loaded = tuple[str, bytes]

# What is larger goes by itself: there a request costs little beside the bytes.
_ALONE = 1 << 20
_GROUP_BYTES = 8 << 20
_GROUP_OBJECTS = 500
_IN_FLIGHT = 2
# A group waits for all that others write to that disk, too.
_TIMEOUT_SECONDS = 300.0


def upload_many(
    connection: LakeFSConnection,
    write: Write,
    repository: str,
    branch: str,
    objects: Iterable[tuple[str, Load]],
    progress: Callable[[int], None] | None = None,
) -> int:
    """Upload (path, loader of its bytes) pairs; `write` uploads one. Returns how many; raises what lakeFS raises."""

    def upload(item: tuple[str, Load]) -> int:
        write(repository, branch, item[0], item[1]())
        return 1

    def load(item: tuple[str, Load]) -> Loaded:
        return item[0], item[1]()

    def send(group: list[Loaded]) -> int:
        if len(group) == 1:
            write(repository, branch, *group[0])
        else:
            _send(connection, repository, branch, group)
        return len(group)

    if takes_many(connection):
        # A group is sent while the next is read.
        groups = _groups(connection.bounded(load, objects))
        counts = connection.bounded(send, groups, threads=_IN_FLIGHT, held=1)
    else:
        counts = connection.bounded(upload, objects)
    done = 0
    for count in counts:
        done += count
        if progress is not None:
            progress(done)
    return done


def takes_many(connection: LakeFSConnection) -> bool:
    """Whether the server takes several objects in a request."""
    from lakefs_sdk.exceptions import ApiException

    try:
        with connection.errors("operations of the server"):
            try:
                _, body = connection.send("GET", "/_lakefs_local/operations")
            except ApiException:
                return False
        return "upload_objects" in json.loads(body)["operations"]
    except (ValueError, KeyError, TypeError):
        # A real server answers every path with its pages.
        return False


def _send(connection: LakeFSConnection, repository: str, branch: str, group: list[Loaded]) -> None:
    parts: list[bytes] = []
    for path, content in group:
        parts += [json.dumps({"path": path, "size": len(content)}).encode(), b"\n", content]
    address = (
        f"/_lakefs_local/repositories/{quote(repository, safe='')}/branches/{quote(branch, safe='')}/objects"
    )
    with connection.errors(f"{repository}/{branch}/{group[0][0]} and {len(group) - 1:,} more"):
        connection.send("POST", address, b"".join(parts), timeout_seconds=_TIMEOUT_SECONDS)


def _groups(loaded: Iterable[Loaded]) -> Iterator[list[Loaded]]:
    group: list[Loaded] = []
    size = 0
    for one in loaded:
        if len(one[1]) >= _ALONE:
            yield [one]
            continue
        group.append(one)
        size += len(one[1])
        if size >= _GROUP_BYTES or len(group) == _GROUP_OBJECTS:
            yield group
            group, size = [], 0
    if group:
        yield group
