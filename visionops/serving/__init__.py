"""What answers over HTTP: the prediction server and what it logs, what Prometheus reads of all projects, and
what lakeFS calls after a commit.
"""
