"""MLflow behind a narrow interface: runs, their artifacts, and registered versions; nothing else talks to it."""

__all__ = ["lock", "lost_runs", "memory", "mlflow_client", "records", "registry", "trackers"]
