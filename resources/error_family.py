"""The errors of VisionOps, one family: what of them reaches a person is one line that names the object and the fix.

    VisionOpsError
    ├── Refused       it is not done: a rule, a person or what is there stands against it; asked again, the same
    ├── Unavailable   a service, a process or a disk does not do its part; asked again later, it may
    ├── NotFound      what was named, or is needed, is not there             (a LookupError)
    ├── Invalid       what was given cannot be used: a file, a setting, a value  (a ValueError)
    └── Altered       what is stored is not what was written there           (a ValueError)

Every error class of `visionops`, `visionops_assets`, `resources` and `sensors` is of one of the five, beside the
built-in that callers and libraries know it by; those of a service that answers in several ways (`LakeFSError`,
`RegistryError`, `DropError`, `DatabaseError`) have a base of their own below `VisionOpsError`. What is not of the
family, and not of the machine (`machine_errors`), is a bug and told as one. `edge` and `lakefs_local` are
distributions of their own: a device has `edge.EdgeError`, and the server answers its clients with
`lakefs_local.catalog.conventions.CatalogError`.
"""


class VisionOpsError(Exception):
    """Base of what VisionOps says no with; the message is one line that names the object and the fix."""


class Refused(VisionOpsError):
    """It is not done: a rule, a person or what is there stands against it. Nothing was changed by asking."""


class Unavailable(VisionOpsError):
    """A service, a process or a disk does not do its part. The same may be asked again."""


class NotFound(VisionOpsError, LookupError):
    """What was named, or is needed, is not there."""


class Invalid(VisionOpsError, ValueError):
    """What was given cannot be used: a file, a setting, a value."""


class Altered(VisionOpsError, ValueError):
    """What is stored is not what was written there."""
