"""What lakeFS means: repositories, branches, commits, merges. Knows no HTTP."""
