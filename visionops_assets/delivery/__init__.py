"""From a registered version to a device: signed bundles, assignments of groups, and who holds which key."""

__all__ = [
    "assets",
    "devices_now",
    "enrolment",
    "following",
    "presentation",
    "publishing",
    "removed_groups",
    "reported_devices",
    "repository",
    "signers",
    "tuf_files",
]
