"""From a registered version to a device: signed bundles, assignments of groups, and who holds which key."""

__all__ = [
    "assets",
    "bundle_making",
    "devices_now",
    "enrolment",
    "following",
    "presentation",
    "publishing",
    "removed_groups",
    "reported_devices",
    "repository",
    "rolling_out",
    "rollout_looks",
    "rollout_page",
    "rollout_reports",
    "rollout_steps",
    "signers",
    "tuf_files",
]
