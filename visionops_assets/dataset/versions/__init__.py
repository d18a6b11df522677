"""Dataset versions: where they lie in lakeFS, their annotations and manifests, and which commits they are."""
