"""MLflow behind a narrow interface: runs, their artifacts, and registered versions; nothing else talks to it."""
