"""What `visionops doctor` tries: settings, this machine, services, and the state of projects."""
