"""Dataset versions: where they lie in lakeFS, their annotations and manifests, and which commits they are."""

__all__ = ["annotations", "commit_log", "dataset_version", "layout", "manifest", "manifest_diff"]
