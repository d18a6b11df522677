"""Actions: YAML files under `_lakefs_actions/` whose webhooks are asked before, and told after, a change."""

__all__ = ["guarded", "hook_runs"]
