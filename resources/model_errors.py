"""What can go wrong between us and MLflow; every message names the object and the fix."""


class RegistryError(RuntimeError):
    """Base of everything the model registry raises."""


class RegistryUnavailable(RegistryError):
    """MLflow does not answer, or its database is locked, unreadable or of another MLflow release."""


class RegistryRefused(RegistryError):
    """MLflow answered and said no: a wrong name, a value too long, missing rights."""


class RunNotFound(RegistryError):
    """No run has this id."""


class ArtifactMissing(RegistryError):
    """The run holds no artifact at this path."""


class ModelNotFound(RegistryError):
    """No registered model, or no such version of it."""
