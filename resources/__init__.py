"""What assets are given: lakeFS, model registry, artifact store."""

from resources.telemetry import switch_off

switch_off()
