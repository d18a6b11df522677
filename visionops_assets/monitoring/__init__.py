"""What production says after a promotion: logs, drift, performance, labels wanted."""

__all__ = [
    "assets",
    "captures",
    "collection",
    "device_files",
    "device_reports",
    "inference_log",
    "labels_wanted",
    "model_days",
    "prediction",
    "production_day",
    "response",
    "spool_files",
]
