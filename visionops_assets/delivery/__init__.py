"""From a registered version to a device: signed bundles, assignments of groups, and who holds which key."""

__all__ = ["assets", "enrolment", "following", "publishing", "repository", "signers", "tuf_files"]
