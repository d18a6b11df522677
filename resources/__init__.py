"""What assets are given: lakeFS, model registry, artifact store."""
