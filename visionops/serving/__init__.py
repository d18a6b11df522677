"""What answers over HTTP: the prediction server and what it logs, what Prometheus reads of all projects, and
what lakeFS calls after a commit.
"""

__all__ = [
    "assigned_app",
    "commit_look",
    "exporter",
    "prediction_app",
    "prediction_log",
    "prediction_server",
    "request_handling",
    "webhook",
]
