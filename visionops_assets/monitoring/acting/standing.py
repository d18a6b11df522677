"""Where each champion stands on a production day: what runs on which device group, and what its days say."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from resources.model_records import EVERYWHERE, ModelVersion, RegisteredModel, alias_of
from visionops_assets.champions.history import Production, groups, production
from visionops_assets.monitoring.acting.actions import Signal
from visionops_assets.monitoring.acting.deciding import Noticed
from visionops_assets.monitoring.drift_rules import DriftRules
from visionops_assets.monitoring.judgement import Day, judge_days
from visionops_assets.monitoring.model_days import Where


@dataclass(frozen=True)
class Champion:
    """The version that runs on a device group by an alias of its own, and the one that it replaced, if any."""

    group: str
    version: ModelVersion
    before: ModelVersion | None
    now: Production


@dataclass(frozen=True)
class Champions:
    """The champions of a project, by device group."""

    own: Mapping[str, Champion]

    def on(self, device_group: str) -> Champion | None:
        """What runs on a device group: its own champion, else that of `all`."""
        return self.own.get(device_group) or self.own.get(EVERYWHERE)

    def of(self, where: Where) -> Champion | None:
        """The champion that these rows are of; None where another model runs there by now."""
        found = self.on(where.device_group)
        return found if found is not None and found.version.weights_sha256 == where.model_sha256 else None


def champions(model: RegisteredModel, versions: Mapping[int, ModelVersion]) -> Champions:
    """What runs now. A champion whose version was deleted from the registry is left out."""
    found = {}
    for group in groups(model):
        version = versions.get(model.aliases.get(alias_of(group), -1))
        if version is None:
            continue
        now = production(model, group)
        # Somebody put it there by hand: nothing is undone before they say what runs.
        before = None if now.foreign else versions.get(now.was_before() or -1)
        same = before is None or before.weights_sha256 == version.weights_sha256
        found[group] = Champion(group, version, None if same else before, now)
    return Champions(found)


def noticed(
    drift: Mapping[Where, list[Day]],
    performance: Mapping[Where, list[Day]],
    day: date,
    running: Champions,
    rules: DriftRules,
) -> list[Noticed]:
    """What the days of every model until `day` say of those that run now."""
    by_signal: list[tuple[Signal | None, Mapping[Where, list[Day]]]] = [("drift", drift), (None, performance)]
    found = []
    for signal, days in by_signal:
        for where, of_model in days.items():
            champion = running.of(where)
            # Of a device group that fell silent nothing new is known.
            if champion is None or of_model[-1].day < day - timedelta(rules.days.within):
                continue
            states = judge_days(of_model, rules.days)
            named = signal or _performance(of_model)
            found.append(Noticed(named, champion.group, where.device_group, where.model_sha256, states))
    return found


def _performance(days: list[Day]) -> Signal:
    """Whether it was labels that showed what the newest bad day shows."""
    signs = next((day.signs for day in reversed(days) if day.signs), ())
    return "realised" if signs and signs[0].startswith("realised") else "estimated"
