"""What can go wrong in the catalog. The HTTP side gives each class its status."""


class CatalogError(Exception):
    """Base: the message is what the client is told."""


class NotFound(CatalogError):
    """No such repository, branch, tag, commit, object or import."""


class Invalid(CatalogError):
    """A value lakeFS does not accept."""


class NotUnique(CatalogError):
    """The name is taken."""


class Conflict(CatalogError):
    """The request contradicts the present state."""


class MergeConflict(CatalogError):
    """Both sides changed these paths."""

    def __init__(self, paths: list[bytes]):
        super().__init__("conflict found")
        self.paths = paths


class Forbidden(CatalogError):
    """A protected branch, a read-only repository, or an import from a folder that is not allowed."""


class NoChanges(CatalogError):
    """Nothing to commit or merge."""

    def __init__(self, message: str = "no changes"):
        super().__init__(message)


class Dirty(CatalogError):
    """The branch has uncommitted changes."""

    def __init__(self) -> None:
        super().__init__("uncommitted changes (dirty branch)")


class PreconditionFailed(CatalogError):
    """`If-None-Match: *` met an object, or a hook refused."""


class TooManyTries(CatalogError):
    """The branch kept moving while a change to it was prepared."""


class BrokenActions(CatalogError):
    """An action file of the branch does not parse."""


class Gone(CatalogError):
    """The bytes of an object are no longer where its address says."""


def prefixed(prefix: str, problem: CatalogError) -> CatalogError:
    """The same problem with its message put in context, as lakeFS words it."""
    if isinstance(problem, MergeConflict):
        return problem
    problem.args = (f"{prefix}{problem.args[0]}",)
    return problem
