"""How the catalog's values look in lakeFS's JSON."""

import json
from collections.abc import Callable, Iterable
from json.encoder import encode_basestring as quoted
from typing import Any, TypeVar

from lakefs_local.catalog.branches import Branch
from lakefs_local.catalog.commits import Commit
from lakefs_local.catalog.diffs import Changed
from lakefs_local.catalog.listing import Listed
from lakefs_local.catalog.paging import Page
from lakefs_local.catalog.repositories import Repository
from lakefs_local.catalog.tags import Tag
from lakefs_local.http.call import Reply, reply_json
from lakefs_local.http.parameters import MAX_AMOUNT
from lakefs_local.storage.blobs import Blobs
from lakefs_local.storage.records import Entry, unpack

T = TypeVar("T")


def page(found: Page[T], render: Callable[[T], Any]) -> Reply:
    """A page of results with lakeFS's pagination."""
    results = [render(result) for result in found.results]
    return reply_json(200, {"pagination": _pagination(found), "results": results})


def page_of_json(found: Page[Any], results: Iterable[str]) -> Reply:
    """The same for results that are JSON text already."""
    text = f'{{"pagination":{json.dumps(_pagination(found))},"results":[{",".join(results)}]}}'
    return Reply(200, text.encode(), "application/json")


def repository(value: Repository) -> dict[str, Any]:
    """As lakeFS's `Repository`."""
    return {
        "id": value.name,
        "creation_date": value.created,
        "default_branch": value.default_branch,
        "storage_id": "",
        "storage_namespace": value.namespace,
        "read_only": value.read_only,
    }


def branch(value: Branch) -> dict[str, Any]:
    """As lakeFS's `Ref`."""
    return {"id": value.name, "commit_id": value.head.hex()}


def tag(value: Tag) -> dict[str, Any]:
    """As lakeFS's `Ref`."""
    return {"id": value.name, "commit_id": value.target.hex()}


def commit(value: Commit) -> dict[str, Any]:
    """As lakeFS's `Commit`."""
    return {
        "id": value.id.hex(),
        "parents": [parent.hex() for parent in value.parents],
        "committer": value.committer,
        "message": value.message,
        "creation_date": value.seconds,
        "meta_range_id": value.root.hex() if value.root else "",
        "metadata": value.metadata,
        "generation": value.generation,
        "version": 1,
    }


def difference(value: Listed[Changed]) -> dict[str, Any]:
    """As lakeFS's `Diff`."""
    path, changed = value
    if changed is None:
        return {"path": path.decode(), "path_type": "common_prefix", "type": "prefix_changed"}
    return {"path": path.decode(), "path_type": "object", "size_bytes": changed.size, "type": changed.kind}


class ObjectRenderer:
    """Objects as lakeFS's `ObjectStats`: their address is the file that holds their bytes."""

    def __init__(self, blobs: Blobs):
        self._blobs = blobs

    def address(self, entry: Entry) -> str:
        """`local://` and the path of the file."""
        return "local://" + (entry.location if entry.blob is None else self._blobs.path(entry.blob))

    def stats(self, path: str, record: bytes, *, with_metadata: bool = True) -> Reply:
        """One object; its metadata is there even if empty."""
        text = self._object(path, unpack(record), with_metadata, even_empty=True)
        return Reply(200, text.encode(), "application/json")

    def listed(self, value: Listed[bytes], *, with_metadata: bool = True) -> str:
        """One line of a listing as JSON; metadata is there only if it is not empty."""
        path, record = value
        if record is None:
            return (
                f'{{"path":{quoted(path.decode())},"path_type":"common_prefix","checksum":"","mtime":0,'
                '"physical_address":""}'
            )
        return self._object(path.decode(), unpack(record), with_metadata, even_empty=False)

    def _object(self, path: str, entry: Entry, with_metadata: bool, even_empty: bool) -> str:
        metadata = ""
        if even_empty or (with_metadata and entry.metadata):
            shown = entry.metadata if with_metadata else {}
            metadata = f',"metadata":{json.dumps(shown, ensure_ascii=False)}'
        return (
            f'{{"path":{quoted(path)},"path_type":"object","physical_address":{quoted(self.address(entry))},'
            f'"checksum":{quoted(entry.checksum)},"size_bytes":{entry.size},"mtime":{entry.mtime}{metadata},'
            f'"content_type":{quoted(entry.content_type)}}}'
        )


def _pagination(found: Page[Any]) -> dict[str, Any]:
    return {
        "has_more": found.has_more,
        "max_per_page": MAX_AMOUNT,
        "next_offset": found.next_offset,
        "results": len(found.results),
    }
