"""What a vision engineer sees: the lineage, its checks, why the model in production is there; and every link opens."""

import base64
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import dagster as dg
import httpx
import pytest
from running_services import Services
from shown_metadata import PICTURE, behind, links_in, metadata

from tests.chromium import see
from visionops_assets.shells.outputs import LARGEST_PICTURE

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

ASSETS = ("incoming_batch", "images", "manifest", "challenger", "evaluation", "champion", "in_production")


@pytest.mark.browser
def test_the_lineage_page_leads_to_why_the_model_is_in_production(
    browser: "Chrome", services: Services
) -> None:
    browser.get(f"{services.dagster}/locations/visionops/asset-groups/{services.project}")
    for asset in ASSETS:
        see(browser, asset)
    see(browser, "in_production").click()
    for said in ("version 2 promoted, replacing version 1", "training and", "Against version 1: images:"):
        see(browser, said)


@pytest.mark.browser
def test_the_lineage_of_all_projects_leads_to_the_assets_of_one(
    browser: "Chrome", services: Services
) -> None:
    browser.get(f"{services.dagster}/asset-groups")
    # Each group is one box at first, beside its name in the list.
    see(browser, services.project, times=2, whole=True).click()
    see(browser, "challenger")


@pytest.mark.browser
def test_failed_and_passed_checks_are_seen_with_their_reasons(browser: "Chrome", services: Services) -> None:
    page = f"{services.dagster}/assets/{services.project}"
    browser.get(f"{page}/evaluation?view=checks&checkDetail=beats_champion")
    see(browser, "beats_champion")
    see(browser, "Failed")
    see(browser, "FAIL: Batch week-03")
    browser.get(f"{page}/manifest?view=checks&checkDetail=labels_known")
    see(browser, "labels_known")
    see(browser, "Passed")


@pytest.mark.browser
def test_mlflow_shows_the_report(browser: "Chrome", services: Services) -> None:
    browser.get(f"{services.dagster}/assets/{services.project}/in_production")
    report = see(browser, "/artifacts/reports/in_production_")
    browser.get(report.text)
    see(browser, "reports/in_production_")


@pytest.fixture(scope="module")
def shown(services: Services) -> list[tuple[str, dg.MetadataValue]]:
    """All metadata of all materialisations, observations and checks, with where it stands."""
    with dg.DagsterInstance.from_config(str(services.folder / "dagster")) as instance:
        return list(metadata(instance))


def test_every_link_opens(services: Services, shown: list[tuple[str, dg.MetadataValue]]) -> None:
    links = links_in(shown)
    opened = {services.lakefs.endpoint: 0, services.mlflow: 0}
    login = (services.lakefs.access_key_id, services.lakefs.secret_access_key)
    refused = []
    with httpx.Client(timeout=60) as client:
        for address, place in links.items():
            (server,) = [base for base in opened if address.startswith(base)] or [address]
            assert server in opened, f"{place} links to {address}, which is no service of this home"
            asked = behind(address, services)
            answer = client.get(asked, auth=login if server == services.lakefs.endpoint else None)
            listed = "artifacts/list" in asked and not answer.json().get("files")
            if answer.status_code != 200 or listed:
                refused.append((place, address, answer.status_code))
            opened[server] += 1
        page = client.get(f"{services.mlflow}/")
    assert refused == []
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert min(opened.values()) >= 3, opened


def test_links_to_mlflow_open_among_trained_models(shown: list[tuple[str, dg.MetadataValue]]) -> None:
    pages = [urlsplit(address).fragment for address in links_in(shown) if "/#/" in address]
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
