"""`gc` and `fsck` from the command line: through the server if one runs, else on the folder itself."""

import base64
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from lakefs_local import discovery
from lakefs_local.folder import DataFolder, FolderError
from lakefs_local.gate import Gate
from lakefs_local.maintenance.check import check
from lakefs_local.maintenance.collect import collect
from lakefs_local.store import Store

_TIMEOUT = 3600


def gc(data: Path) -> dict[str, int]:
    """Collect garbage; how much was removed. Raises FolderError."""
    folder = DataFolder(data)
    folder.check_format()
    server = discovery.running(data)
    if server is not None:
        return _ask(server)
    store = Store(folder)
    try:
        return collect(store, Gate()).told()
    finally:
        store.close()


def fsck(data: Path) -> Iterator[str]:
    """What is wrong with a data folder. Raises FolderError."""
    return check(DataFolder(data))


def _ask(server: discovery.Server) -> dict[str, int]:
    address = urlsplit(server.endpoint)
    pair = f"{server.access_key_id}:{server.secret_access_key}"
    headers = {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_TIMEOUT)
    try:
        connection.request("POST", "/_lakefs_local/collect", headers=headers)
        answer = connection.getresponse()
        said: dict[str, int] = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as problem:
        raise FolderError(f"the server at {server.endpoint} did not collect: {problem}") from problem
    finally:
        connection.close()
    if answer.status != 200:
        raise FolderError(f"the server at {server.endpoint} did not collect: {said.get('message')}")
    return said
