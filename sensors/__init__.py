"""What starts work: new commits, batches in the drop, the spool of production; and who is told how runs ended."""

__all__ = [
    "after_promotion",
    "announcements",
    "drops",
    "new_commits",
    "newest_version",
    "production_log",
    "readiness",
    "unfinished_runs",
]
