"""What stands in the metadata of a home with history: every link opens, no picture is too large."""

import base64
import re
from collections.abc import Iterator
from urllib.parse import parse_qs, quote, urlsplit

import dagster as dg
import httpx
import pytest
from running_services import Services

from visionops_assets.metadata import LARGEST_PICTURE

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
PICTURE = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]+)")


@pytest.fixture(scope="module")
def shown(services: Services) -> list[tuple[str, dg.MetadataValue]]:
    """All metadata of all materialisations, observations and checks, with where it stands."""
    with dg.DagsterInstance.from_config(str(services.folder / "dagster")) as instance:
        return list(_metadata(instance))


def _metadata(instance: dg.DagsterInstance) -> Iterator[tuple[str, dg.MetadataValue]]:
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


def _links(shown: list[tuple[str, dg.MetadataValue]]) -> dict[str, str]:
    """Every address, with one place where it stands."""
    found = {}
    for place, value in shown:
        if isinstance(value, dg.UrlMetadataValue) and value.url:
            found[value.url] = place
        if isinstance(value, dg.MarkdownMetadataValue) and value.md_str:
            found |= dict.fromkeys(LINK.findall(value.md_str), place)
    return found


def _behind(address: str, services: Services) -> str:
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


def test_every_link_opens(services: Services, shown: list[tuple[str, dg.MetadataValue]]) -> None:
    links = _links(shown)
    opened = {services.lakefs.endpoint: 0, services.mlflow: 0}
    login = (services.lakefs.access_key_id, services.lakefs.secret_access_key)
    refused = []
    with httpx.Client(timeout=60) as client:
        for address, place in links.items():
            (server,) = [base for base in opened if address.startswith(base)] or [address]
            assert server in opened, f"{place} links to {address}, which is no service of this home"
            behind = _behind(address, services)
            answer = client.get(behind, auth=login if server == services.lakefs.endpoint else None)
            listed = "artifacts/list" in behind and not answer.json().get("files")
            if answer.status_code != 200 or listed:
                refused.append((place, address, answer.status_code))
            opened[server] += 1
        page = client.get(f"{services.mlflow}/")
    assert refused == []
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert min(opened.values()) >= 3, opened


def test_links_to_mlflow_open_among_trained_models(shown: list[tuple[str, dg.MetadataValue]]) -> None:
    pages = [urlsplit(address).fragment for address in _links(shown) if "/#/" in address]
    assert pages
    assert all(parse_qs(urlsplit(page).query)["workflowType"] == ["machine_learning"] for page in pages)


def test_every_picture_is_a_small_png(shown: list[tuple[str, dg.MetadataValue]]) -> None:
    pictures = [
        base64.b64decode(encoded)
        for _, value in shown
        if isinstance(value, dg.MarkdownMetadataValue)
        for encoded in PICTURE.findall(value.md_str or "")
    ]
    assert len(pictures) > 3
    assert all(png.startswith(b"\x89PNG") for png in pictures)
    assert max(map(len, pictures)) <= LARGEST_PICTURE
