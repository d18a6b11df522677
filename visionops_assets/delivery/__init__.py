"""From a registered version to a device: signed bundles, assignments of groups, and who holds which key."""
