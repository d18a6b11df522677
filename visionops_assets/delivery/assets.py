"""`edge_bundle`: what the device groups are given; `devices`: what answers on them."""

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg

from resources import clocks
from resources.error_family import VisionOpsError
from resources.escaping import without_secrets
from resources.lakefs.client import LakeFSResource
from resources.machine_errors import in_words
from resources.models.registry import ModelRegistry
from resources.storage import ArtifactStore, Scratch
from visionops_assets.common import run_tags
from visionops_assets.config.project import Project
from visionops_assets.shells.asset_options import (
    DEVICES,
    EDGE_BUNDLE,
    IN_PRODUCTION,
    ROLLOUT,
    asset_key,
    asset_options,
    rollouts_of_project,
)
from visionops_assets.shells.job_execution import clear_failures, job_options

if TYPE_CHECKING:
    from visionops_assets.delivery.publishing import Publication
    from visionops_assets.shells.unstable_dagster import UnresolvedAssetJobDefinition


def edge_bundle_asset(project: Project, in_production: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """The unpartitioned `edge_bundle` asset of a project whose file names device groups."""

    @dg.asset(
        **asset_options(project, EDGE_BUNDLE, ["onnx"]),
        deps=[in_production],
        description=(
            "What devices fetch: by group the signed bundle of the version that it should run by the aliases, and the "
            "assignment that names it. Whatever changes an alias leads here within a tick; where an alias and the "
            "history disagree, the group keeps what it has. What ages is signed anew."
        ),
    )
    def edge_bundle(
        context: dg.AssetExecutionContext,
        lakefs: dg.ResourceParam[LakeFSResource],
        registry: dg.ResourceParam[ModelRegistry],
        artifacts: dg.ResourceParam[ArtifactStore],
        scratch: dg.ResourceParam[Scratch],
        edge: dg.ResourceParam[ArtifactStore],
    ) -> Iterator[dg.MaterializeResult]:
        from visionops_assets.delivery.following import Shipping, standings, withdraw_superseded
        from visionops_assets.delivery.presentation import bundle_metadata, rollouts_shown
        from visionops_assets.delivery.repository import Repository, lock_name
        from visionops_assets.delivery.rolling_out import conduct
        from visionops_assets.delivery.signers import load_keys

        with clear_failures(context), registry.lock(lock_name(project.delivered_as)):
            repository = Repository(edge, project.delivered_as, load_keys(project.project))
            shipping = Shipping(project, registry, lakefs, artifacts, scratch.samples)
            done: list[Publication] = []
            failed: list[tuple[str, Exception]] = []
            try:
                led = conduct(project, registry, artifacts, repository.running(), clocks.now())
            except Exception as error:
                # A group whose rollout cannot go on keeps none of the others from theirs.
                failed.append(("rollouts", error))
                led = []
            for said in led:
                context.log.info(said)
            if (
                led
                and (changed := _production_told(context, project, lakefs, registry, artifacts)) is not None
            ):
                context.log_event(changed)
            found = standings(project, registry, repository)
            if withdraw_superseded(project, repository, found):
                context.log.info("what waited for approvers is let go: no group is to run it any more")
            for each in found:
                if not each.due:
                    continue
                context.log.info(each.sentence())
                try:
                    done.append(shipping.follow(repository, each.group))
                except Exception as error:
                    # The other groups are not to wait for this one, nor is what ages.
                    failed.append((each.group, error))
            renewed = repository.refresh()
            found = standings(project, registry, repository)
            metadata = bundle_metadata(project, repository, done, found, renewed, led)
            running = {group: each["base"]["bundle"] for group, (each, _) in repository.running().items()}
        identity = hashlib.sha256(json.dumps(running, sort_keys=True).encode()).hexdigest()
        for event in rollouts_shown(context.instance, project, registry, artifacts):
            context.log_event(event)
        yield dg.MaterializeResult(data_version=dg.DataVersion(identity[:16]), metadata=metadata)
        if failed:
            said = "; ".join(f"{group}: {in_words(error)}" for group, error in failed)
            raise dg.Failure(description=without_secrets(said), allow_retries=False) from failed[0][1]
        context.instance.add_run_tags(context.run.run_id, {run_tags.OUTCOME: run_tags.DELIVERED})

    return edge_bundle


def _production_told(
    context: dg.AssetExecutionContext,
    project: Project,
    lakefs: LakeFSResource,
    registry: ModelRegistry,
    artifacts: ArtifactStore,
) -> dg.AssetMaterialization | None:
    """What `in_production` says after a rollout changed what a group runs; else the production sensor tells it."""
    from visionops_assets.promotion.presentation import production_materialisation, untold_change

    key = asset_key(project, IN_PRODUCTION)
    try:
        change = untold_change(context.instance, registry, project.project, key)
        if change is None:
            return None
        return production_materialisation(
            context.instance,
            project,
            key,
            change.group,
            lakefs=lakefs,
            registry=registry,
            artifacts=artifacts,
        )
    except (VisionOpsError, LookupError, OSError, ValueError) as error:
        context.log.info(f"in_production is told later: {error}")
        return None


def devices_spec(project: Project, edge_bundle: dg.AssetsDefinition) -> dg.AssetSpec:
    """The asset that a project whose file names device groups has behind `edge_bundle`; nothing computes it."""
    return dg.AssetSpec(
        **asset_options(project, DEVICES, ["onnx"]),
        deps=[edge_bundle],
        description=(
            "What answers on each device, as their collected reports tell: by group how many devices there are, which "
            "versions they run, who is silent, what is wrong. The delivery sensor tells it anew when that changes."
        ),
    )


def rollout_spec(project: Project, edge_bundle: dg.AssetsDefinition) -> dg.AssetSpec:
    """The asset of rollouts, a partition each; nothing computes it."""
    return dg.AssetSpec(
        **asset_options(project, ROLLOUT, ["onnx"]),
        partitions_def=rollouts_of_project(project.project),
        deps=[edge_bundle],
        description=(
            "A version on its way to a device group in waves: the verdict on it in words, evidence over time beside "
            "its thresholds, the waves, and the devices that refused it. The delivery sensor tells it anew when that "
            "changes."
        ),
    )


def deliver_job(project: Project, edge_bundle: dg.AssetsDefinition) -> "UnresolvedAssetJobDefinition":
    """The job that the delivery sensor asks for."""
    return dg.define_asset_job(
        f"{project.project}_deliver",
        selection=dg.AssetSelection.assets(edge_bundle),
        description="Give every declared device group what it should run by the aliases, and sign anew what ages.",
        **job_options(project),
    )
