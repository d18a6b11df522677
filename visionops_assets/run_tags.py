"""Tags that runs carry: one home for their names."""

import socket

PROJECT = "visionops/project"
COMMIT = "visionops/commit"
RECIPE = "visionops/training_version"
INTENT = "visionops/intent"
ATTEMPT = "visionops/attempt"
HOST = "visionops/host"
OUTCOME = "visionops/outcome"

DECISION = "decision"
WHAT_IF = "what_if"

PROMOTED = "promoted"
REFUSED = "refused"
INSUFFICIENT = "insufficient"
AWAITING_APPROVAL = "awaiting_approval"
ERROR = "error"


def host() -> str:
    """This machine, as runs record it."""
    return socket.gethostname()[:63]
