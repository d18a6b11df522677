"""The forge where a change is discussed: GitHub or GitLab, by the command line tools that are there."""
