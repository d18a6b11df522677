"""How the embedded server keeps data: blob files, a SQLite database, and trees of small shared nodes."""

__all__ = ["blobs", "database", "encoding", "tree"]
