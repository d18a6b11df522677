"""What `visionops doctor` tries: settings, this machine, services, and the state of projects."""

__all__ = ["checking", "databases", "disks_and_clock", "installation", "places", "project_state", "servers"]
