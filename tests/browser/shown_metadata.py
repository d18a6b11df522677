"""All that stands in the metadata of a home with history, and what has to answer behind its links."""

import re
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import dagster as dg
from running_services import Services

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
PICTURE = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]+)")


def metadata(instance: dg.DagsterInstance) -> Iterator[tuple[str, dg.MetadataValue]]:
    """Each value of all materialisations, observations and checks, with where it stands."""
    for key in instance.all_asset_keys():
        events = [
            *instance.fetch_materializations(key, limit=100).records,
            *instance.fetch_observations(key, limit=100).records,
        ]
        for event in events:
            found = event.asset_materialization or event.asset_observation
            assert found is not None
            for name, value in found.metadata.items():
                yield f"{key.to_user_string()}, {found.partition}, {name}", value
    for run in instance.get_runs():
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
            assert entry.dagster_event is not None
            check = entry.dagster_event.asset_check_evaluation_data
            for name, value in check.metadata.items():
                yield f"{check.asset_key.to_user_string()}, {check.check_name}, {name}", value


def links_in(shown: list[tuple[str, dg.MetadataValue]]) -> dict[str, str]:
    """Every address, with one place where it stands."""
    found = {}
    for place, value in shown:
        if isinstance(value, dg.UrlMetadataValue) and value.url:
            found[value.url] = place
        if isinstance(value, dg.MarkdownMetadataValue) and value.md_str:
            found |= dict.fromkeys(LINK.findall(value.md_str), place)
    return found


def behind(address: str, services: Services) -> str:
    """What has to answer for a link to open. MLflow's pages are one page that then asks its API."""
    base, _, page = address.partition("/#/")
    if not page:
        return address
    page = urlsplit(page).path
    if found := re.fullmatch(r"experiments/\d+/runs/(\w+)", page):
        return f"{base}/api/2.0/mlflow/runs/get?run_id={found[1]}"
    if found := re.fullmatch(r"experiments/\d+/runs/(\w+)/artifacts/(.*\.\w+)", page):
        return f"{base}/get-artifact?run_uuid={found[1]}&path={quote(found[2])}"
    if found := re.fullmatch(r"experiments/\d+/runs/(\w+)/artifacts/(.*)", page):
        return f"{base}/api/2.0/mlflow/artifacts/list?run_id={found[1]}&path={quote(found[2])}"
    found = re.fullmatch(r"models/([^/]+)/versions/(\d+)", page)
    assert found is not None, f"no page of MLflow: {address}"
    return f"{base}/api/2.0/mlflow/model-versions/get?name={found[1]}&version={found[2]}"
