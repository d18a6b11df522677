"""Why a drop cannot be read."""


class DropError(RuntimeError):
    """Any failure to read a drop; the message names the place and the fix."""


class DropUnavailable(DropError):
    """Nothing answers, or the connection was lost: worth trying again, which goes on where it stopped."""


class DropAway(DropUnavailable):
    """Nothing answers: no fault of the batch, so that no run counts as an attempt."""


class DropRefused(DropError):
    """The place says no: credentials, permissions, no such bucket."""


class DropChanged(DropError):
    """A batch changed while it was read; it is taken when it is complete."""
