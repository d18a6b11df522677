"""How every server of ours meets its clients: the runner, and limits that nobody exceeds. Imports nothing of ours."""
