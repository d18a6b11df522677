"""What training raises. Light, so that an asset can catch these without importing torch."""


class TrainingError(Exception):
    """A training cannot start, or cannot go on; the message says what to change."""


class ModelError(TrainingError):
    """The model named by `model.class_path` does not fit the protocol."""


class WeightsError(TrainingError):
    """A weights file is missing, altered, or does not fit the model."""


class ExportError(TrainingError):
    """The model cannot be written as ONNX."""
