"""An embedded lakeFS: one process, one folder, nothing to install, honest semantics."""

__all__ = ["data_folder", "discovery"]
