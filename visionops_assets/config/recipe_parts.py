"""The parts of a recipe that not every model and task can have, and what each needs."""

from visionops_assets.config.augmentations import Mixing, Mosaic
from visionops_assets.config.recipe import Optimiser, Recipe
from visionops_assets.config.training_rules import FineTuning, Loss


def asked_for(recipe: Recipe) -> dict[str, str]:
    """What a recipe asks for beyond the plain training, by name, and what it needs: classes, boxes or nothing."""
    asked: dict[str, str] = {}
    for name in ("freeze_epochs", "layer_decay", "head_multiplier"):
        if getattr(recipe.fine_tuning, name) != FineTuning.model_fields[name].default:
            asked[f"fine_tuning.{name}"] = ""
    for name in ("warmup_epochs", "clip_norm", "accumulate"):
        if getattr(recipe.optimiser, name) != Optimiser.model_fields[name].default:
            asked[f"optimiser.{name}"] = ""
    for name in ("label_smoothing", "class_weights"):
        if getattr(recipe.loss, name) != Loss.model_fields[name].default:
            asked[f"loss.{name}"] = "classes"
    if recipe.sampler != "shuffled":
        asked["sampler"] = "classes"
    if recipe.averaging is not None:
        asked["averaging"] = ""
    for each in recipe.augmentations:
        if isinstance(each, Mixing):
            asked[each.name] = "classes"
        elif isinstance(each, Mosaic):
            asked[each.name] = "boxes"
    return asked


def why_not_learnt(recipe: Recipe, *, one_class: bool, boxes: bool) -> str | None:
    """Why a recipe cannot be for images of `one_class` each, or with `boxes`, in words; None where it can."""
    asked = asked_for(recipe)
    wrong = [name for name, needs in asked.items() if needs == "classes"]
    if boxes and wrong:
        return f"{', '.join(wrong)}: this takes one class an image, not boxes; remove it"
    if one_class and "mosaic" in asked:
        return "mosaic: four images in one have no one class; it is for boxes, remove it"
    return None
