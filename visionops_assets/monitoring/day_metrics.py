"""Numbers of production days as metrics of the runs that made the models."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import date

from resources.models.registry import ModelRegistry
from visionops_assets.monitoring.model_days import Where
from visionops_assets.monitoring.reference import NoReference, References


class DayMetrics:
    """Numbers of days, gathered and then logged as `<device group>.<name>` at the step YYYYMMDD of each model's run.

    A day that is judged again and gives what it gave adds no point.
    """

    def __init__(self, references: References, registry: ModelRegistry) -> None:
        self._references, self._registry = references, registry
        self._points: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))

    def add(self, values: Mapping[Where, Mapping[str, float]], day: date) -> None:
        """Take the numbers of a day; those of a model that is not registered have no run to go to."""
        for where, numbers in values.items():
            try:
                run_id = self._references.version(where.model_sha256).run_id
            except NoReference:
                continue
            for name, value in numbers.items():
                self._points[run_id][f"{where.plain_group()}.{name}"][int(f"{day:%Y%m%d}")] = value

    def log(self) -> None:
        """Log what was taken. Raises what MLflow raises."""
        for run_id, points in self._points.items():
            self._registry.runs.log_points(run_id, points)
