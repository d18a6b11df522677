"""What several stages share and no stage owns: keys, tags of runs, tables, errors, levels. Pure."""

__all__ = ["arrow_columns", "error_levels", "errors", "findings", "keys", "progress", "run_tags", "tables"]
