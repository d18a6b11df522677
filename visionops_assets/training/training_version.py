"""Which training a project asks for now: what changes when its recipe, its classes or the code change."""

import hashlib
from functools import cache

from visionops_assets.config.recipe import canonical_json, recipe_digest
from visionops_assets.project import Project
from visionops_assets.training.code_digest import code_digest

LENGTH = 16


def training_version(project: Project) -> str:
    """Digest of task, classes, recipe and code: the `code_version` of assets, and part of a run's key."""
    code = loaded_code_digest(project.recipe.model.class_path)
    return training_version_of(project, recipe_digest(project.recipe), code)


def training_version_of(project: Project, recipe: str, code: str) -> str:
    """The same of any recipe and code, by their digests."""
    content = [project.task, list(project.classes), recipe, code]
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:LENGTH]


@cache
def loaded_code_digest(model_class_path: str) -> str:
    """The digest of the code that this process runs: files edited after they were loaded change nothing here."""
    return code_digest(model_class_path)
