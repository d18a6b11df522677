"""How every server of ours meets its clients: the runner, who may ask, and limits that nobody exceeds. Imports
nothing of ours.
"""

__all__ = ["asgi", "guard"]
