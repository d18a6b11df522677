"""The manifest: the table of all samples at a dataset version, made of fragments that versions share.

One fragment for each annotations file, so a new version costs what changed. In the store, format 1:

    fragments/<2 hex>/<digest>.parquet            the rows of one annotations file, named by the digest of
                                                  their content (`arrow_columns.py`), not of the Parquet bytes
    manifest/sources/<digest of (path, checksum)> the digest of the fragment made of that file: what lets a
                                                  version skip the files it shares with another

A manifest is `{"format": 1, "fragments": [{"source": …, "digest": …, "rows": n}, …]}` by source; its digest
is the SHA-256 of the list of (source, digest).
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, Self

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from resources.error_family import Altered, NotFound
from visionops_assets.common.arrow_columns import table_content_digest
from visionops_assets.common.tables import arrow_parquet, fragment_key
from visionops_assets.dataset.dataset_task import Truth, dataset_task, truth_of
from visionops_assets.dataset.versions.annotations import AnnotationsError, columns_with, read_annotations
from visionops_assets.dataset.versions.layout import annotations_path, batch_of
from visionops_assets.tasks.task_registry import CLASSIFICATION, task

FORMAT = 1
# What comes behind the batch, among the columns of one's own.
_AFTER = ("captured_at", "source")


class Store(Protocol):
    """Bytes under `/`-separated keys; what `resources.storage` is."""

    def exists(self, key: str) -> bool: ...
    def read(self, key: str) -> bytes: ...
    def write_once(self, key: str, content: bytes) -> None: ...


@dataclass(frozen=True)
class AnnotationsFile:
    """An annotations file as a commit lists it: `checksum` is lakeFS's, an opaque version of its bytes."""

    path: str
    checksum: str


@dataclass(frozen=True)
class Fragment:
    """The rows of one annotations file: `source` is its path, `digest` that of the rows' content."""

    source: str
    digest: str
    rows: int


@dataclass(frozen=True)
class Manifest:
    """The fragments of a dataset version, by source."""

    fragments: tuple[Fragment, ...]

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the list: two manifests with the same rows in the same files have the same."""
        named = [[fragment.source, fragment.digest] for fragment in self.fragments]
        return hashlib.sha256(json.dumps([FORMAT, named], separators=(",", ":")).encode()).hexdigest()

    @property
    def rows(self) -> int:
        return sum(fragment.rows for fragment in self.fragments)

    def to_json(self) -> dict[str, Any]:
        """What is stored; `from_json` reads it."""
        return {"format": FORMAT, "fragments": [vars(fragment) for fragment in self.fragments]}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Raises `ValueError` for a format that is not this one."""
        if content.get("format") != FORMAT:
            raise Altered(f"a manifest of format {content.get('format')}; this VisionOps reads {FORMAT}")
        return cls(tuple(Fragment(**fragment) for fragment in content["fragments"]))


class AlteredFragment(Altered):
    """A stored fragment whose rows are not what its name says."""


def build_manifest(
    files: Sequence[AnnotationsFile],
    fetch: Callable[[list[str]], Iterable[tuple[str, bytes]]],
    store: Store,
) -> Manifest:
    """The manifest of a commit from its annotations files.

    Only files that no earlier manifest in the store was made of are fetched, as (path, bytes) in any order.
    Raises `AnnotationsError` naming a file that cannot be used, `LookupError` for one that never came.
    """
    known: dict[str, Fragment] = {}
    new = {file.path: file for file in files}
    for file in files:
        fragment = _known_fragment(file, store)
        if fragment is not None:
            known[file.path] = fragment
            del new[file.path]
    if new:
        for path, data in fetch(sorted(new)):
            known[path] = _add_fragment(new.pop(path), data, store)
    if new:
        raise NotFound(f"{min(new)} is listed in the commit but was not read")
    return Manifest(tuple(known[path] for path in sorted(known)))


def read_fragment(fragment: Fragment, store: Store) -> pa.Table:
    """The rows of a fragment, sorted by path. Raises `AlteredFragment`."""
    key = fragment_key(fragment.digest)
    table = pq.read_table(pa.BufferReader(store.read(key))).replace_schema_metadata(None)
    if table_content_digest(table) != fragment.digest:
        raise AlteredFragment(
            f"{key} does not hold the rows it is named for; remove it and materialise again"
        )
    return table


def read_manifest(manifest: Manifest, store: Store) -> pa.Table:
    """All rows, sorted by path. A column that only some batches have is null in the others.

    Raises `AnnotationsError` where two batches give one column different types, and `AlteredFragment`.
    """
    tables = [read_fragment(fragment, store) for fragment in manifest.fragments]
    if not tables:
        tables = [no_rows()]
    try:
        return pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise AnnotationsError(_disagreement(manifest.fragments, tables)) from error


def manifest_frame(table: pa.Table) -> pd.DataFrame:
    """The manifest as the DataFrame that assets hand on."""
    found: pd.DataFrame = table.to_pandas()
    return found


def manifest_rows(annotations: pa.Table, source: str) -> pa.Table:
    """Annotations as rows of the manifest: with their batch, and every sample in a group.

    A sample without a group is its own: its SHA-256, so copies of one image are one group.
    """
    group = pc.if_else(pc.is_null(annotations["group"]), annotations["sha256"], annotations["group"])
    table = annotations.set_column(annotations.column_names.index("group"), "group", group)
    table = table.append_column("batch", pa.repeat(pa.scalar(batch_of(source)), len(table)))
    first = [name for name in columns_with(truth_of(table.column_names)) if name not in _AFTER] + ["batch"]
    return table.select(first + sorted(set(table.column_names) - set(first))).replace_schema_metadata(None)


def no_rows() -> pa.Table:
    """What `main` has before its first batch."""
    truth = Truth(task(CLASSIFICATION).truth, dataset_task(CLASSIFICATION))
    columns = {name: pa.array([], kind) for name, kind in columns_with(truth).items()}
    return manifest_rows(pa.table(columns), annotations_path("none", "none"))


def _disagreement(fragments: Sequence[Fragment], tables: Sequence[pa.Table]) -> str:
    seen: dict[str, tuple[pa.DataType, str]] = {}
    for fragment, table in zip(fragments, tables, strict=True):
        for field in table.schema:
            kind, source = seen.setdefault(field.name, (field.type, fragment.source))
            if kind != field.type:
                return (
                    f"column {field.name!r} has the type {kind} in {source} but {field.type} in {fragment.source}; "
                    "give it one type in all batches"
                )
    return "the batches' annotations do not fit into one table"


def _known_fragment(file: AnnotationsFile, store: Store) -> Fragment | None:
    if not store.exists(_source_key(file)):
        return None
    fragment = Fragment(**json.loads(store.read(_source_key(file))))
    return fragment if store.exists(fragment_key(fragment.digest)) else None


def _add_fragment(file: AnnotationsFile, data: bytes, store: Store) -> Fragment:
    rows = manifest_rows(read_annotations(data, file.path), file.path).combine_chunks()
    fragment = Fragment(file.path, table_content_digest(rows), len(rows))
    store.write_once(fragment_key(fragment.digest), arrow_parquet(rows))
    store.write_once(_source_key(file), json.dumps(vars(fragment)).encode())
    return fragment


def _source_key(file: AnnotationsFile) -> str:
    named = json.dumps([FORMAT, file.path, file.checksum]).encode()
    return f"manifest/sources/{hashlib.sha256(named).hexdigest()}.json"
