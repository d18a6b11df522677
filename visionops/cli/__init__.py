"""The command line: verbs by what a person does, each a function that Typer reads. What is heavy is imported
when a verb runs.
"""

__all__ = ["command_line", "listening", "projects"]
