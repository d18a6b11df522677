"""Making commits: of what is staged, of a merge, of a revert or a cherry-pick. Each runs in one transaction."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from lakefs_local.catalog import commits, diffs, objects, refs, repositories
from lakefs_local.catalog.commits import Commit
from lakefs_local.catalog.conventions import (
    CatalogError,
    Conflict,
    Dirty,
    Invalid,
    MergeConflict,
    NoChanges,
    prefixed,
)
from lakefs_local.catalog.merge import Strategy
from lakefs_local.catalog.repositories import Branch, Repository
from lakefs_local.storage import encoding, tree
from lakefs_local.storage.database import Session
from lakefs_local.storage.tree import Change

COMMITTER = "admin"
_CONFLICTS_NAMED = 1000


@dataclass(frozen=True, slots=True)
class Statement:
    """What a commit says besides its content. `seconds` overrides its date."""

    message: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    seconds: int | None = None
    allow_empty: bool = False


def commit(
    session: Session,
    repository: Repository,
    branch_name: str,
    statement: Statement,
    sealed: int | None = None,
) -> Commit:
    """Commit what is staged, or of that only the sealed layers. Raises NotFound, Forbidden, NoChanges."""
    repositories.check_committable(repository, branch_name)
    branch = repositories.get_branch(session, repository.id, branch_name)
    head = commits.get(session, repository.id, branch.head)
    applied = tree.apply(
        session.nodes, head.root, objects.staged_changes(session, branch, sealed=sealed), encoding.same_object
    )
    if not applied.changed and not statement.allow_empty:
        raise NoChanges("commit: no changes")
    made = _add(session, repository, (head,), applied.root, statement)
    objects.unstage_sealed(session, branch, branch.layer if sealed is None else sealed)
    repositories.move_branch(session, branch, made.id)
    return made


def commit_tree(
    session: Session,
    repository: Repository,
    branch_name: str,
    base: bytes | None,
    root: bytes,
    statement: Statement,
) -> Commit:
    """Commit a tree that was built from `base`; what the branch gained since stays, and gives way where both differ.

    Raises NotFound, Forbidden, Dirty.
    """
    repositories.check_committable(repository, branch_name)
    branch = repositories.get_branch(session, repository.id, branch_name)
    head = _clean_head(session, repository, branch)
    merged = three_way(session, base, head.root, root, Strategy.SOURCE_WINS)
    return _advance(session, repository, branch, head, merged, statement)


@dataclass(frozen=True, slots=True)
class PreparedMerge:
    """A merge commit that the destination does not point to yet."""

    branch: Branch
    commit: Commit


def prepare_merge(
    session: Session,
    repository: Repository,
    source: str,
    destination: str,
    statement: Statement,
    strategy: Strategy = Strategy.NONE,
    *,
    squash: bool = False,
) -> PreparedMerge:
    """Store the commit that merges the source's committed head into a branch.

    Raises NotFound, Dirty, NoChanges, or MergeConflict if both sides changed a path and no strategy decides.
    """
    branch = repositories.get_branch(session, repository.id, destination)
    context = f"update branch {destination}: "
    try:
        theirs = commits.get(session, repository.id, refs.resolve_commit(session, repository.id, source))
    except CatalogError as problem:
        raise prefixed(f"{context}get commit by ref {source}: ", problem) from None
    ours = _clean_head(session, repository, branch)
    base = commits.merge_base(session, repository.id, ours.id, theirs.id)
    if theirs.root == base.root:
        if not statement.allow_empty:
            raise NoChanges(f"{context}no changes")
        root = ours.root
    else:
        root = three_way(session, base.root, ours.root, theirs.root, strategy)
    said = Statement(
        statement.message or f"Merge '{source}' into '{destination}'",
        {**statement.metadata, ".lakefs.merge.strategy": strategy or "default"},
        statement.seconds,
    )
    return PreparedMerge(branch, _add(session, repository, (ours,) if squash else (ours, theirs), root, said))


def finish_merge(session: Session, repository: Repository, prepared: PreparedMerge) -> bool:
    """Point the destination at a prepared merge; False if it has moved on meanwhile. Raises NotFound, Dirty."""
    branch = repositories.get_branch(session, repository.id, prepared.branch.name)
    if (branch.id, branch.head) != (prepared.branch.id, prepared.branch.head):
        return False
    _clean_head(session, repository, branch)
    objects.unstage_prefix(session, branch, b"")
    repositories.move_branch(session, branch, prepared.commit.id)
    return True


def three_way(
    session: Session,
    base: bytes | None,
    ours: bytes | None,
    theirs: bytes | None,
    strategy: Strategy = Strategy.NONE,
) -> bytes | None:
    """The tree of `ours` with what changed from `base` to `theirs`. Raises MergeConflict."""
    if base == ours:
        return theirs
    conflicts: list[bytes] = []

    def changes() -> Iterator[Change]:
        for change in diffs.diff_three_way(session, base, ours, theirs):
            if change.conflict and strategy is Strategy.NONE:
                conflicts.append(change.key)
                if len(conflicts) >= _CONFLICTS_NAMED:
                    return
            elif not change.conflict or strategy is Strategy.SOURCE_WINS:
                yield change.key, change.source

    root = tree.apply(session.nodes, ours, changes(), encoding.same_object).root
    if conflicts:
        raise MergeConflict(conflicts)
    return root


def revert(
    session: Session,
    repository: Repository,
    branch_name: str,
    reference: str,
    parent_number: int,
    statement: Statement,
) -> Commit:
    """Undo a commit on top of a branch. Raises NotFound, Forbidden, Dirty, Invalid, Conflict, NoChanges."""
    repositories.check_committable(repository, branch_name)
    branch = repositories.get_branch(session, repository.id, branch_name)
    undone = _commit_of(session, repository, reference)
    if len(undone.parents) > 1 and parent_number <= 0:
        raise Conflict("must specify 1-based parent number for reverting merge commit")
    parent = _parent(session, repository, undone, parent_number)
    head = _clean_head(session, repository, branch)
    root = _on_top(session, undone.root, head.root, parent.root)
    if root == head.root and not statement.allow_empty:
        raise NoChanges("update branch: no changes")
    said = Statement(statement.message or f"Revert {reference}", statement.metadata)
    return _advance(session, repository, branch, head, root, said)


def cherry_pick(
    session: Session,
    repository: Repository,
    branch_name: str,
    reference: str,
    parent_number: int | None,
    statement: Statement,
) -> Commit:
    """Repeat a commit on top of a branch. Raises NotFound, Forbidden, Dirty, Invalid, Conflict."""
    repositories.check_committable(repository, branch_name)
    branch = repositories.get_branch(session, repository.id, branch_name)
    picked = _commit_of(session, repository, reference)
    if len(picked.parents) > 1 and parent_number is None:
        raise Invalid("must specify 1-based parent number for cherry-picking merge commit")
    parent = _parent(session, repository, picked, parent_number or 0)
    head = _clean_head(session, repository, branch)
    root = _on_top(session, parent.root, head.root, picked.root)
    origin = {"cherry-pick-origin": picked.id.hex(), "cherry-pick-committer": picked.committer}
    said = Statement(statement.message or picked.message, {**picked.metadata, **statement.metadata, **origin})
    return _advance(session, repository, branch, head, root, said)


def hard_reset(session: Session, repository: Repository, branch_name: str, reference: str) -> None:
    """Point a branch at another commit. Raises NotFound, Forbidden, Dirty, Invalid."""
    repositories.check_writable(repository, branch_name)
    branch = repositories.get_branch(session, repository.id, branch_name)
    target = refs.resolve_commit(session, repository.id, reference)
    _clean_head(session, repository, branch)
    objects.unstage_prefix(session, branch, b"")
    repositories.move_branch(session, branch, target)


def _add(
    session: Session,
    repository: Repository,
    parents: tuple[Commit, ...],
    root: bytes | None,
    statement: Statement,
) -> Commit:
    ids = tuple(parent.id for parent in parents)
    generation = max(parent.generation for parent in parents)
    made = commits.draft(
        ids, generation, root, COMMITTER, statement.message, statement.metadata, statement.seconds
    )
    return commits.add(session, repository.id, made)


def _advance(
    session: Session,
    repository: Repository,
    branch: Branch,
    head: Commit,
    root: bytes | None,
    statement: Statement,
) -> Commit:
    made = _add(session, repository, (head,), root, statement)
    objects.unstage_prefix(session, branch, b"")
    repositories.move_branch(session, branch, made.id)
    return made


def _clean_head(session: Session, repository: Repository, branch: Branch) -> Commit:
    head = commits.get(session, repository.id, branch.head)
    if not objects.is_clean(session, branch, head.root):
        raise Dirty
    return head


def _on_top(session: Session, base: bytes | None, ours: bytes | None, theirs: bytes | None) -> bytes | None:
    try:
        return three_way(session, base, ours, theirs)
    except MergeConflict as problem:
        raise Conflict(f"update branch: {problem}") from None


def _commit_of(session: Session, repository: Repository, reference: str) -> Commit:
    try:
        return commits.get(session, repository.id, refs.resolve_commit(session, repository.id, reference))
    except CatalogError as problem:
        raise prefixed(f"get commit from ref {reference}: ", problem) from None


def _parent(session: Session, repository: Repository, commit_of: Commit, number: int) -> Commit:
    if number > len(commit_of.parents) or number < 0 or not commit_of.parents:
        raise Invalid(f"parent {number}: given commit does not have the given parent number")
    return commits.get(session, repository.id, commit_of.parents[max(number, 1) - 1])
