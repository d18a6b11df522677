"""What the references of a data folder reach: commits, nodes, blobs and staged files."""

from collections.abc import Iterator

from lakefs_local.storage import records
from lakefs_local.storage.database import Session


def live_commits(session: Session, repository_id: int) -> set[bytes]:
    """The ids of all commits that a branch or tag of a repository reaches."""
    heads = session.rows(
        "SELECT head FROM branches WHERE repository = ? UNION SELECT target FROM tags WHERE repository = ?",
        *(repository_id, repository_id),
    )
    pending = [head for (head,) in heads]
    live: set[bytes] = set()
    while pending:
        commit_id = pending.pop()
        if commit_id in live:
            continue
        live.add(commit_id)
        row = session.one(
            "SELECT parents FROM commits WHERE repository = ? AND id = ?", repository_id, commit_id
        )
        if row:
            pending += [row[0][at : at + 32] for at in range(0, len(row[0]), 32)]
    return live


def roots(session: Session) -> Iterator[bytes]:
    """The roots of all commits' trees."""
    for (root,) in session.rows("SELECT DISTINCT root FROM commits WHERE root IS NOT NULL"):
        yield root


def staged_records(session: Session) -> Iterator[bytes]:
    """The records of all staged objects."""
    for (record,) in session.rows("SELECT record FROM staging WHERE record IS NOT NULL"):
        yield record


class Marks:
    """Collects what trees and staging need. `files` are locations outside the blob store."""

    def __init__(self, session: Session):
        self._session = session
        self.nodes: set[bytes] = set()
        self.blobs: set[bytes] = set()
        self.files: set[str] = set()

    def add_record(self, record: bytes) -> None:
        """Note what an object's bytes need."""
        blob = records.blob_of(record)
        if blob is not None:
            self.blobs.add(blob)
        else:
            self.files.add(records.unpack(record).location)

    def add_tree(self, root: bytes) -> None:
        """Note every node and record of a tree; what another tree shares is visited once. Raises MissingNode."""
        pending = [root]
        while pending:
            node_id = pending.pop()
            if node_id in self.nodes:
                continue
            self.nodes.add(node_id)
            level, _, values = self._session.nodes.get(node_id)
            if level:
                pending += values
            else:
                for record in values:
                    self.add_record(record)
