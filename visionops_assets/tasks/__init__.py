"""What a project can learn: the tasks by name, and where each stage finds what is peculiar to one."""

__all__ = ["task_registry"]
