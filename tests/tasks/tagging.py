"""A third task, several labels an image, in one file: what each stage asks of it, and how it is made known."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from torch import Tensor, float64, maximum, nn, sigmoid, tensor
from torch.nn import functional

from visionops_assets.common.errors import ModelError
from visionops_assets.config.gate_rules import GateRules
from visionops_assets.config.recipe import InputSpec, Recipe
from visionops_assets.dataset.dataset_task import TaskOfCells
from visionops_assets.evaluation.context import GateContext
from visionops_assets.evaluation.evaluation_task import Errors, EvaluationTask, Pixels, Said
from visionops_assets.evaluation.paired_difference import DifferenceBounds, paired_difference
from visionops_assets.evaluation.significance import superiority_p_value
from visionops_assets.evaluation.slices import compared, labels_needed, leaks_shown
from visionops_assets.evaluation.verdict import Comparison, Evidence, SliceRow
from visionops_assets.inference.predictions import key_faults, keys_of, missing_columns
from visionops_assets.inference.shipped_model import ShippedModel
from visionops_assets.tasks.task_registry import Task
from visionops_assets.training.batches import Gathered, LabelledImages
from visionops_assets.training.models import Shipped, evaluating, largest_difference
from visionops_assets.training.training_task import TrainingTask, Validation, evaluated_at_once

NAME, TRUTH, METRIC = "tagging", "tags", "exact match"


class TaggingInDataset(TaskOfCells):
    """A list of tags an image, which a table has in one cell with blanks between them; none is an answer."""

    kind = pa.list_(pa.string())
    nothing = ("no tags",)
    label_formats = ("csv",)
    whole_images = True
    label_studio = ("Choices", "choices", "Choice")

    def of_cell(self, cell: Any) -> list[str]:
        tags = cell.split() if isinstance(cell, str) else list(cell if cell is not None else ())
        return sorted(set(tags))

    def with_classes(self, truth: Any, called: Callable[[str], str | None]) -> list[str]:
        return sorted({name for tag in truth if (name := called(tag)) is not None})

    def named(self, truths: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
        return truths.flatten(), pc.list_parent_indices(truths).to_numpy()

    def classes(self, truth: Any) -> tuple[str, ...]:
        return tuple(sorted(set(truth))) or self.nothing

    def text(self, truth: Any) -> str:
        return ", ".join(self.classes(truth))

    def fault(self, truths: pa.Array) -> tuple[int, str] | None:
        tags, rows = self.named(truths)
        place = pc.index(pc.equal(pc.fill_null(tags, ""), ""), True).as_py()
        return None if place < 0 else (int(rows[place]), "has an empty tag")


class ShippedTagger(Shipped):
    """The chance of each tag, float [N, classes], and an embedding."""

    task = NAME
    outputs = ("chances", "embedding")
    heads = (nn.Linear,)
    compared = "chances"

    def answers(self, outputs: Tensor) -> tuple[Tensor, ...]:
        return (sigmoid(outputs),)

    def check_answers(self, answers: tuple[Tensor, ...]) -> None:
        if answers[0].shape != (2, len(self.classes)):
            raise ModelError(f"gives {tuple(answers[0].shape)} for 2 images")

    def differences(
        self, found: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]
    ) -> tuple[float, int]:
        same = ((found[0] > 0.5) == (expected[0] > 0.5)).all(axis=1)
        return largest_difference(found[0], expected[0]), int(same.sum())


class TaggingNet(nn.Module):
    """A layer of one's own loss: each tag by itself."""

    def __init__(self, num_classes: int, input: InputSpec) -> None:
        super().__init__()
        self.head = nn.Linear(input.channels * input.height * input.width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.head(images.flatten(1))
        return found

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(outputs, targets)


class TaggingInTraining(TrainingTask):
    """Targets float32 [N, classes], 1 for each tag that an image has."""

    score = "exact_match"
    shipped = ShippedTagger

    def targets(self, rows: pd.DataFrame, classes: Sequence[str], input: InputSpec) -> NDArray[Any]:
        return np.array([[name in tags for name in classes] for tags in rows[TRUTH]], np.float32)

    def labels(self, targets: NDArray[Any]) -> NDArray[np.int64]:
        return np.nonzero(targets)[1].astype(np.int64)

    def follow(self, targets: Tensor, recipe: Recipe, epoch: int, samples: NDArray[np.int64]) -> Tensor:
        return targets

    def validate(self, shipped: Shipped, images: LabelledImages) -> Validation:
        loss, right = 0.0, 0
        with evaluating(shipped):
            for pixels, targets, _ in Gathered(images).in_order(evaluated_at_once(shipped.input)):
                chances = shipped(pixels)[0].double()
                meant = chances * targets + (1 - chances) * (1 - targets)
                loss -= float(maximum(meant, tensor(1e-12, dtype=float64)).log().mean(dim=1).sum())
                right += int(((chances > 0.5) == (targets > 0.5)).all(dim=1).sum())
        return Validation(loss / len(images), right / len(images))


class TaggingInEvaluation(EvaluationTask):
    """An image is right where all its tags are, and no other."""

    name = NAME

    def run(self, shipped: ShippedModel, batches: Iterable[Pixels]) -> Any:
        (chances,) = shipped.run(batches, ("chances",))
        return [
            [name for name, chance in zip(shipped.classes, row, strict=True) if chance > 0.5]
            for row in np.concatenate(chances)
        ]

    def table(
        self, holdout: pd.DataFrame, *, challenger: Any, champion: Any = None, slices: Sequence[str] = ()
    ) -> pd.DataFrame:
        table = keys_of(holdout, TRUTH, slices)
        for model, answers in (("champion", champion), ("challenger", challenger)):
            if answers is not None:
                table[self.answer_column(model)] = pd.Series(answers, index=table.index, dtype=object)
        return table

    def faults(self, predictions: pd.DataFrame, rules: GateRules, context: GateContext) -> list[str]:
        models = ("challenger",) if context.champion is None else ("challenger", "champion")
        wanted = [TRUTH, *(self.answer_column(model) for model in models)]
        return missing_columns(predictions, wanted) or key_faults(predictions)

    def measure(self, predictions: pd.DataFrame, rules: GateRules, context: GateContext) -> Evidence:
        groups = pd.factorize(predictions["group"])[0].astype(np.int64)
        right = self.errors(predictions, "challenger", 0).counts == 0
        primary = Comparison(metric=METRIC, unit="share", challenger=float(right.mean()))
        needed, theirs = None, None
        if context.champion is not None:
            theirs = self.errors(predictions, "champion", 0).counts == 0
            gain = right.astype(np.float64) - theirs
            pair = paired_difference(gain, groups)
            wins, losses = int((gain > 0).sum()), int((gain < 0).sum())
            primary = compared(
                METRIC,
                "share",
                {"challenger": float(right.mean()), "champion": float(theirs.mean())},
                pair,
                rules,
                DifferenceBounds(pair, draws=rules.bootstrap.draws, seed=rules.bootstrap.seed),
                wins=wins,
                losses=losses,
                p_superior=superiority_p_value(wins, losses, pair, seed=rules.bootstrap.seed),
            )
            needed = labels_needed(gain, pair, rules, context)
        present = {tag for tags in predictions[TRUTH] for tag in tags}
        whole = SliceRow(
            column=None,
            value="overall",
            rows=len(predictions),
            groups=int(groups.max()) + 1,
            challenger=float(right.mean()),
            floor=rules.floors.overall,
            below_floor=bool(right.mean() < rules.floors.overall),
        )
        return Evidence(
            rows=len(predictions),
            groups=whole.groups,
            primary=primary,
            slices=[whole],
            labels=needed,
            leak_count=len(context.leaks),
            leaks=leaks_shown(context.leaks),
            absent_classes=[name for name in context.classes if name not in present],
            present_classes=len(present),
        )

    def opinion(self, answers: Any, sides: Sequence[tuple[int, int]]) -> pd.DataFrame:
        return pd.DataFrame({TRUTH: answers})

    def truth(self, row: pd.Series) -> Said:
        return Said(", ".join(row[TRUTH]))

    def answer_column(self, model: str) -> str:
        return f"{model}_tags"

    def errors(self, predictions: pd.DataFrame, model: str, least: float) -> Errors:
        pairs = list(zip(predictions[TRUTH], predictions[self.answer_column(model)], strict=True))
        counts = np.array([len({*truth} ^ {*said}) for truth, said in pairs], np.float64)
        return Errors(counts, np.ones(len(pairs)), [Said(", ".join(said)) for _, said in pairs])


DATASET, TRAINING, EVALUATION = TaggingInDataset(), TaggingInTraining(), TaggingInEvaluation()
TASK = Task(
    NAME,
    TRUTH,
    "several tags an image",
    truth_as_text=lambda tags: ", ".join(sorted(tags)),
    facets={
        "dataset": f"{__name__}:DATASET",
        "training": f"{__name__}:TRAINING",
        "evaluation": f"{__name__}:EVALUATION",
    },
)
