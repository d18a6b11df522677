"""What assets are given: lakeFS, model registry, artifact store."""

from resources.environ import switch_telemetry_off

__all__ = [
    "clocks",
    "dagster_resources",
    "databases",
    "drop",
    "drop_places",
    "environ",
    "error_family",
    "escaping",
    "home",
    "lakefs",
    "machine_errors",
    "models",
    "nearest",
    "safe_files",
    "service_clients",
    "settings",
    "storage",
    "webhooks",
]

switch_telemetry_off()
