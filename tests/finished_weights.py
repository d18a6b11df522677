"""A model as it was trained, built anew from its recipe and its file of weights."""

import torch

from visionops_assets.training.classification import TASK
from visionops_assets.training.determinism import deterministic_session
from visionops_assets.training.model_files import read_weights
from visionops_assets.training.models import Shipped, build_model
from visionops_assets.training.train import TrainingResult
from visionops_assets.training.training_task import TrainingTask


def from_its_weights(trained: TrainingResult, classes: tuple[str, ...], task: TrainingTask = TASK) -> Shipped:
    recipe = trained.recipe
    with deterministic_session(seed=recipe.seed, threads=torch.get_num_threads()):
        shipped = task.ship(build_model(recipe.model, classes, recipe.input), classes, recipe.input)
    shipped.load_state_dict(read_weights(trained.weights, trained.weights_sha256))
    return shipped.eval()
