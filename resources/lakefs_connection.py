"""One connection to a lakeFS server: finding it, paging, threads, and errors in words."""

import concurrent.futures
import functools
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from resources import home
from resources.lakefs_errors import LakeFSNotFound, LakeFSUnavailable, error_from
from resources.webhook_token import give_to_actions

if TYPE_CHECKING:
    from lakefs_sdk.client import LakeFSClient

PAGE = 1000
Item = TypeVar("Item")
Result = TypeVar("Result")


class LakeFSConnection:
    """With no endpoint, the embedded server on `VISIONOPS_HOME/lakefs`, started when it is not running."""

    def __init__(
        self, endpoint: str | None, key: str | None, secret: str | None, timeout_seconds: float, threads: int
    ) -> None:
        self._endpoint, self._key, self._secret = endpoint, key, secret
        self._timeout_seconds, self._threads = timeout_seconds, threads
        self._client: LakeFSClient | None = None
        self._address = ""

    def address(self) -> str:
        """The server in use, as an http address without `/api/v1`."""
        self._connected()
        return self._address

    def allow_imports(self, folder: Path) -> None:
        """Let the embedded server import from a folder."""
        if self._endpoint is None:
            from lakefs_local.discovery import ensure_running

            give_to_actions()
            ensure_running(home.lakefs_data(), import_from=[folder])

    def call(self, request: "Callable[[LakeFSClient], Result]") -> Result:
        """Send one request; an embedded server that stopped itself when idle is started again, once."""
        from urllib3.exceptions import HTTPError

        try:
            return request(self._connected())
        except HTTPError:
            if self._endpoint is not None:
                raise
            self._client = None
            return request(self._connected())

    def pages(self, what: str, request: "Callable[[LakeFSClient, str], Any]") -> Iterator[dict[str, Any]]:
        """All results of a listing. `request(client, after)` asks for one page without decoding it: the
        client's models cost several times the request."""
        after = ""
        while True:
            with self.errors(what):
                page = json.loads(self.call(functools.partial(_page, request, after)).raw_data)
            yield from page["results"]
            if not page["pagination"]["has_more"]:
                return
            after = page["pagination"]["next_offset"]

    def bounded(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Map by several threads, in order, never holding more than four results a thread."""
        self._connected()
        with concurrent.futures.ThreadPoolExecutor(self._threads) as pool:
            waiting: deque[concurrent.futures.Future[Result]] = deque()
            try:
                for item in items:
                    waiting.append(pool.submit(work, item))
                    if len(waiting) >= 4 * self._threads:
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
            translated = error_from(error, what, self._address or self._endpoint or "the embedded server")
            if missing_ok and isinstance(translated, LakeFSNotFound):
                return
            raise translated from error

    def _connected(self) -> "LakeFSClient":
        if self._client is None:
            self._client = self._connect()
        return self._client

    def _connect(self) -> "LakeFSClient":
        from lakefs.client import Client

        endpoint, key, secret = self._endpoint, self._key, self._secret
        if endpoint is None:
            from lakefs_local.discovery import ensure_running

            give_to_actions()
            server = ensure_running(home.lakefs_data())
            endpoint, key, secret = server.endpoint, server.access_key_id, server.secret_access_key
        if not (key and secret):
            raise LakeFSUnavailable(
                f"lakeFS at {endpoint} needs credentials: set LAKEFS_ACCESS_KEY_ID "
                "and LAKEFS_SECRET_ACCESS_KEY"
            )
        self._address = endpoint.removesuffix("/").removesuffix("/api/v1")
        client = Client(host=self._address, username=key, password=secret).sdk_client
        rest = client._api.rest_client
        rest.pool_manager.connection_pool_kw.update(maxsize=self._threads, retries=1)
        # The generated client has no default timeout: a server that hangs would hang the run.
        rest.request = functools.partial(_with_timeout, rest.request, self._timeout_seconds)
        return client


def _with_timeout(request: Callable[..., Any], seconds: float, *args: Any, **options: Any) -> Any:
    options["_request_timeout"] = options.get("_request_timeout") or seconds
    return request(*args, **options)


def _page(request: "Callable[[LakeFSClient, str], Any]", after: str, client: "LakeFSClient") -> Any:
    return request(client, after)
