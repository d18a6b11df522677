"""lakeFS's JSON: the bodies that its operations take, and how the catalog's values look in its answers."""

import json
from collections.abc import Callable, Iterable
from json.encoder import encode_basestring as quoted
from typing import Any, TypeVar

from lakefs_local.catalog.commits import Commit
from lakefs_local.catalog.conventions import Listed, Page
from lakefs_local.catalog.diffs import Changed
from lakefs_local.catalog.refs import Tag
from lakefs_local.catalog.repositories import Branch, Repository
from lakefs_local.http.exchange import MAX_AMOUNT, Field, Reply, Schema, reply_json
from lakefs_local.storage.blobs import Blobs
from lakefs_local.storage.encoding import Entry, unpack_record

_TEXT = Field(needed=True)
_FLAG = Field("boolean")
_OVERRIDES = Field(
    "object", schema=Schema("CommitOverrides", {"message": Field(), "metadata": Field("strings")})
)

REPOSITORY = Schema(
    "RepositoryCreation",
    {
        "name": Field(needed=True, pattern="[a-z0-9][a-z0-9-]{2,62}"),
        "storage_namespace": Field(needed=True, pattern="(s3|gs|https?|mem|local|transient)://.*"),
        "storage_id": Field(),
        "default_branch": Field(),
        "sample_data": _FLAG,
        "read_only": _FLAG,
    },
)
REPOSITORY_METADATA = Schema("RepositoryMetadataSet", {"metadata": Field("strings", needed=True)})
REPOSITORY_METADATA_KEYS = Schema("RepositoryMetadataKeys", {"keys": Field("list", needed=True)})
PROTECTION_RULE = Schema("BranchProtectionRule", {"pattern": _TEXT})
BRANCH = Schema("BranchCreation", {"name": _TEXT, "source": _TEXT, "force": _FLAG, "hidden": _FLAG})
RESET = Schema(
    "ResetCreation",
    {
        "type": Field(needed=True, allowed=["object", "common_prefix", "reset"]),
        "path": Field(),
        "force": _FLAG,
    },
)
COMMIT = Schema(
    "CommitCreation",
    {
        "message": _TEXT,
        "metadata": Field("strings"),
        "date": Field("time"),
        "allow_empty": _FLAG,
        "force": _FLAG,
    },
)
MERGE = Schema(
    "Merge",
    {
        "message": Field(),
        "metadata": Field("strings"),
        "strategy": Field(),
        "force": _FLAG,
        "allow_empty": _FLAG,
        "squash_merge": _FLAG,
    },
)
REVERT = Schema(
    "RevertCreation",
    {
        "ref": _TEXT,
        "parent_number": Field("integer", needed=True),
        "commit_overrides": _OVERRIDES,
        "force": _FLAG,
        "allow_empty": _FLAG,
    },
)
CHERRY_PICK = Schema(
    "CherryPickCreation",
    {"ref": _TEXT, "parent_number": Field("integer"), "commit_overrides": _OVERRIDES, "force": _FLAG},
)
TAG = Schema("TagCreation", {"id": _TEXT, "ref": _TEXT, "force": _FLAG})
PATHS = Schema("PathList", {"paths": Field("list", needed=True)})
COPY = Schema("ObjectCopyCreation", {"src_path": _TEXT, "src_ref": Field(), "force": _FLAG, "shallow": _FLAG})
USER_METADATA = Schema("UpdateObjectUserMetadata", {"set": Field("strings", needed=True)})
STAGING = Schema(
    "StagingMetadata",
    {
        "staging": Field(
            "object",
            needed=True,
            schema=Schema("StagingLocation", {"physical_address": Field(), "presigned_url": Field()}),
        ),
        "checksum": _TEXT,
        "size_bytes": Field("integer", needed=True),
        "user_metadata": Field("strings"),
        "content_type": Field(),
        "mtime": Field("time"),
        "force": _FLAG,
    },
)
IMPORT = Schema(
    "ImportCreation",
    {
        "paths": Field(
            "list",
            needed=True,
            schema=Schema(
                "ImportLocation",
                {
                    "type": Field(needed=True, allowed=["common_prefix", "object"]),
                    "path": _TEXT,
                    "destination": _TEXT,
                },
            ),
        ),
        "commit": Field(
            "object",
            needed=True,
            schema=Schema(
                "CommitCreation", {"message": _TEXT, "metadata": Field("strings"), "date": Field("time")}
            ),
        ),
        "force": _FLAG,
    },
)


T = TypeVar("T")


def render_page(found: Page[T], render: Callable[[T], Any]) -> Reply:
    """A page of results with lakeFS's pagination."""
    results = [render(result) for result in found.results]
    return reply_json(200, {"pagination": _pagination_of(found), "results": results})


def render_page_of_json(found: Page[Any], results: Iterable[str]) -> Reply:
    """The same for results that are JSON text already."""
    text = f'{{"pagination":{json.dumps(_pagination_of(found))},"results":[{",".join(results)}]}}'
    return Reply(200, text.encode(), "application/json")


def render_repository(value: Repository) -> dict[str, Any]:
    """As lakeFS's `Repository`."""
    return {
        "id": value.name,
        "creation_date": value.created,
        "default_branch": value.default_branch,
        "storage_id": "",
        "storage_namespace": value.namespace,
        "read_only": value.read_only,
    }


def render_branch(value: Branch) -> dict[str, Any]:
    """As lakeFS's `Ref`."""
    return {"id": value.name, "commit_id": value.head.hex()}


def render_tag(value: Tag) -> dict[str, Any]:
    """As lakeFS's `Ref`."""
    return {"id": value.name, "commit_id": value.target.hex()}


def render_commit(value: Commit) -> dict[str, Any]:
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


def render_difference(value: Listed[Changed]) -> dict[str, Any]:
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
        text = self._object(path, unpack_record(record), with_metadata, even_empty=True)
        return Reply(200, text.encode(), "application/json")

    def listed(self, value: Listed[bytes], *, with_metadata: bool = True) -> str:
        """One line of a listing as JSON; metadata is there only if it is not empty."""
        path, record = value
        if record is None:
            return (
                f'{{"path":{quoted(path.decode())},"path_type":"common_prefix","checksum":"","mtime":0,'
                '"physical_address":""}'
            )
        return self._object(path.decode(), unpack_record(record), with_metadata, even_empty=False)

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


def _pagination_of(found: Page[Any]) -> dict[str, Any]:
    return {
        "has_more": found.has_more,
        "max_per_page": MAX_AMOUNT,
        "next_offset": found.next_offset,
        "results": len(found.results),
    }
