"""What `visionops doctor` tries: each setting, the machine, and every service that the environment names."""
