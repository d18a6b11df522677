"""The parts of a recipe that not every model and task can have, and what each needs."""

from visionops_assets.config.augmentations import Mixing, Mosaic
from visionops_assets.config.recipe import Recipe

# Part of a recipe, its fields, and what these need.
_BEYOND_THE_PLAIN = (
    ("fine_tuning", ("freeze_epochs", "layer_decay", "head_multiplier"), ""),
    ("optimiser", ("warmup_epochs", "clip_norm", "accumulate"), ""),
    ("loss", ("label_smoothing", "class_weights"), "classes"),
)


def asked_for(recipe: Recipe) -> dict[str, str]:
    """What a recipe asks for beyond the plain training, by name, and what it needs: classes, boxes or nothing."""
    asked: dict[str, str] = {}
    for part, names, needs in _BEYOND_THE_PLAIN:
        section = getattr(recipe, part)
        for name in names:
            if getattr(section, name) != type(section).model_fields[name].default:
                asked[f"{part}.{name}"] = needs
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
