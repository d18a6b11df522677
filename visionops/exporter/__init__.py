"""What Prometheus reads of all projects: models, verdicts, production days, data, runs and sensors."""
