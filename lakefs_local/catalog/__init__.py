"""What lakeFS means: repositories, branches, commits, merges. Knows no HTTP."""

__all__ = ["commits", "committing", "conventions", "diffs", "merge", "objects", "refs", "repositories"]
