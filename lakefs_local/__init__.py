"""An embedded lakeFS: one process, one folder, nothing to install, honest semantics."""
