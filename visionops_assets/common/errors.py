"""What the product refuses or cannot do; each message names the fix. Light: whoever catches these need not import
what raises them.
"""

from resources.error_family import Invalid, Refused


class PromotionRefused(Refused, RuntimeError):
    """Base of every refusal. Nothing was changed; trying the same again ends the same."""


class VerdictMissing(PromotionRefused):
    """No decision of this id is stored: none was made, it was a what-if, or its file was altered."""


class VerdictNotPassed(PromotionRefused):
    """The decision is FAIL or INSUFFICIENT and nobody overrode it."""


class ChampionMoved(PromotionRefused):
    """The decision was made against a model that is no longer champion."""


class ChampionUnclear(PromotionRefused):
    """The history names another champion than MLflow does: somebody moved or deleted something there."""


class OnHold(PromotionRefused):
    """Promotion is on hold after a rollback or by hand."""


class ApprovalNeeded(PromotionRefused):
    """The project promotes by hand and nobody approved this verdict yet."""


class Rejected(PromotionRefused):
    """A person rejected this verdict."""


class DigestMismatch(PromotionRefused):
    """The files of the challenger's run are not those that were judged."""


class HistoryUnreadable(PromotionRefused):
    """An entry of the history cannot be read."""


class NothingToRollBackTo(PromotionRefused):
    """No version is in production, none was before, or the named one never was."""


class ReasonMissing(PromotionRefused):
    """A change by hand must say who makes it, and why."""


class TrainingError(Invalid):
    """A training cannot start, or cannot go on; the message says what to change."""


class ModelError(TrainingError):
    """The model named by `model.class_path` does not fit the protocol."""


class WeightsError(TrainingError):
    """A weights file is missing, altered, or does not fit the model."""


class ExportError(TrainingError):
    """The model cannot be written as ONNX."""
