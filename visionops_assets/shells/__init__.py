"""Every Dagster helper: what assets, checks and jobs are made with. Only those, the graph and sensors import it."""

__all__ = ["asset_options", "job_execution", "outputs", "run_outcomes", "unstable_dagster"]
