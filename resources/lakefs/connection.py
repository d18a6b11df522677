"""One connection to a lakeFS server: finding it, paging, threads, errors in words, and uploads of many objects.

The embedded server makes the objects of one request durable together, so several go in one where a server takes
them.
"""

import concurrent.futures
import functools
import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from resources import clocks, home
from resources.environ import give_token_to_actions
from resources.escaping import masked
from resources.lakefs.replies import LakeFSAway, LakeFSNotFound, LakeFSUnavailable, error_from, not_lakefs
from resources.machine_errors import machine_error

if TYPE_CHECKING:
    from lakefs_sdk.client import LakeFSClient

    from lakefs_local.discovery import Server


PAGE = 1000
Item = TypeVar("Item")
Result = TypeVar("Result")
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


class LakeFSConnection:
    """With no endpoint, the embedded server on `VISIONOPS_HOME/lakefs`: started when it is not running, it stays while
    this process lives, and is found again where it went if it was stopped."""

    def __init__(
        self, endpoint: str | None, key: str | None, secret: str | None, timeout_seconds: float, threads: int
    ) -> None:
        self._endpoint, self._key, self._secret = endpoint, key, secret
        self._timeout_seconds, self._threads = timeout_seconds, threads
        # The client in use, and the embedded server that it is a client of.
        self._opened: tuple[LakeFSClient, Server | None] | None = None
        self._address = ""
        self._connecting = threading.Lock()
        # The date of the newest answer, and when it was asked for and came.
        self._dated: tuple[str | None, datetime, datetime] | None = None

    def address(self) -> str:
        """The server in use, as an http address without `/api/v1`. Its client, which is slow to load, is not needed."""
        with self._connecting:
            if not self._address:
                self._located()
            return self._address

    def access(self) -> tuple[str, str, str]:
        """Address, key and secret: all that another process needs to know."""
        _, embedded = self._connected()
        key, secret = self._key, self._secret
        if embedded is not None:
            key, secret = embedded.access_key_id, embedded.secret_access_key
        return self._address, key or "", secret or ""

    def clock_ahead(self) -> timedelta:
        """How far the server's clock is ahead of this machine's, by its newest answer; 0 where that cannot be told."""
        if self._endpoint is None or self._dated is None:
            return timedelta(0)
        return clocks.ahead_by_header(*self._dated) or timedelta(0)

    def allow_imports(self, folder: Path) -> None:
        """Let the embedded server import from a folder."""
        if self._endpoint is None:
            _embedded(import_from=[folder])

    def call(self, request: "Callable[[LakeFSClient], Result]") -> Result:
        """Send one request; to an embedded server that is gone meanwhile, once more where its successor is."""
        from lakefs_sdk.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        opened = client, embedded = self._connected()
        try:
            return request(client)
        except HTTPError:
            if self._endpoint is not None:
                raise
        except ApiException:
            # What answers at the port of a server that is gone may be another home's, which knows nothing of ours.
            if embedded is None or _still_serves(embedded):
                raise
        with self._connecting:
            if self._opened is opened:
                self._opened = None
        return request(self._connected()[0])

    def send(
        self, method: str, path: str, body: bytes | None = None, timeout_seconds: float | None = None
    ) -> tuple[int, bytes]:
        """Status and body of a request that is no part of lakeFS's API, signed in. Raises what the client raises."""

        def request(client: "LakeFSClient") -> tuple[int, bytes]:
            configuration = client._api.configuration
            headers = {
                "Content-Type": "application/octet-stream",
                "Authorization": configuration.get_basic_auth_token(),
            }
            answer = client._api.rest_client.request(
                method, self._address + path, headers=headers, body=body, _request_timeout=timeout_seconds
            )
            return answer.status, answer.data

        return self.call(request)

    def pages(self, what: str, request: "Callable[[LakeFSClient, str], Any]") -> Iterator[dict[str, Any]]:
        """All results of a listing. `request(client, after)` asks for one page without decoding it: the
        client's models cost several times the request."""
        after = ""
        while True:
            with self.errors(what):
                page = json.loads(self.call(functools.partial(_page, request, after)).raw_data)
            if not isinstance(page, dict) or not {"results", "pagination"} <= page.keys():
                raise not_lakefs(what, self._shown, "another JSON")
            yield from page["results"]
            if not page["pagination"]["has_more"]:
                return
            after = page["pagination"]["next_offset"]

    def bounded(
        self,
        work: Callable[[Item], Result],
        items: Iterable[Item],
        threads: int | None = None,
        held: int = 4,
    ) -> Iterator[Result]:
        """Map by several threads, in order, never holding more than `held` results a thread."""
        self._connected()
        threads = threads or self._threads
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            waiting: deque[concurrent.futures.Future[Result]] = deque()
            try:
                for item in items:
                    waiting.append(pool.submit(work, item))
                    if len(waiting) >= held * threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    @contextmanager
    def errors(self, what: str, missing_ok: bool = False) -> Iterator[None]:
        """Translate the client's exceptions about `what`; with `missing_ok`, a 404 ends the block quietly."""
        from lakefs_sdk.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (ApiException, HTTPError) as error:
            translated = error_from(error, what, self._shown)
            if missing_ok and isinstance(translated, LakeFSNotFound):
                return
            raise translated from error
        except json.JSONDecodeError as error:
            raise not_lakefs(what, self._shown, "no JSON") from error

    @property
    def _shown(self) -> str:
        """The server in messages."""
        return masked(self._address or self._endpoint or "the embedded server")

    def _request(self, request: Callable[..., Any], *args: Any, **options: Any) -> Any:
        options["_request_timeout"] = options.get("_request_timeout") or self._timeout_seconds
        asked = clocks.now()
        answer = request(*args, **options)
        # Decoded or not, the client gives one or the other.
        headers = getattr(answer, "urllib3_response", answer).headers
        self._dated = headers.get("date"), asked, clocks.now()
        return answer

    def _connected(self) -> "tuple[LakeFSClient, Server | None]":
        with self._connecting:
            if self._opened is None:
                self._opened = self._connect()
            return self._opened

    def _connect(self) -> "tuple[LakeFSClient, Server | None]":
        from lakefs.client import Client

        key, secret, embedded = self._located()
        client = Client(host=self._address, username=key, password=secret).sdk_client
        rest = client._api.rest_client
        rest.pool_manager.connection_pool_kw.update(maxsize=self._threads, retries=1)
        # The generated client has no default timeout: a server that hangs would hang the run.
        rest.request = functools.partial(self._request, rest.request)
        return client, embedded

    def _located(self) -> "tuple[str, str, Server | None]":
        """Key and secret of the server in use, and the embedded one where it is that; the address is kept."""
        endpoint, key, secret, embedded = self._endpoint, self._key, self._secret, None
        if endpoint is None:
            embedded = _embedded()
            endpoint, key, secret = embedded.endpoint, embedded.access_key_id, embedded.secret_access_key
        if not (key and secret):
            raise LakeFSUnavailable(
                f"lakeFS at {masked(endpoint)} needs credentials: set LAKEFS_ACCESS_KEY_ID "
                "and LAKEFS_SECRET_ACCESS_KEY"
            )
        self._address = endpoint.removesuffix("/").removesuffix("/api/v1")
        return key, secret, embedded


def _embedded(import_from: Sequence[Path] = ()) -> "Server":
    """The embedded server, started where it does not run. Raises `LakeFSAway` saying why it cannot."""
    from lakefs_local.data_folder import FolderError
    from lakefs_local.discovery import ensure_running

    try:
        give_token_to_actions()
        return ensure_running(home.lakefs_data(), import_from=import_from)
    except (FolderError, OSError) as error:
        raise LakeFSAway(f"the embedded lakeFS does not start: {machine_error(error) or error}") from error


def _still_serves(server: "Server") -> bool:
    from lakefs_local.discovery import serves

    return serves(server, home.lakefs_data())


def _page(request: "Callable[[LakeFSClient, str], Any]", after: str, client: "LakeFSClient") -> Any:
    return request(client, after)


def stop_embedded(data: Path) -> bool:
    """Have the embedded server of a data folder leave; False where another process uses it. Raises FolderError."""
    from lakefs_local import discovery

    return discovery.stop(data, unless_used=True) or discovery.running(data) is None


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
