"""What a vision engineer sees: the lineage, its checks, and why the model in production is there."""

from typing import TYPE_CHECKING, Literal

import pytest
from running_services import Services

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

PATIENCE = 90
ASSETS = ("incoming_batch", "images", "manifest", "challenger", "evaluation", "champion", "in_production")

pytestmark = pytest.mark.browser


def _see(browser: "Chrome", text: str) -> "WebElement":
    """Wait until a text can be seen, and give the innermost element that holds it."""
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    where = f"//*[text()[contains(normalize-space(.), '{text}')]]"

    def visible(page: "Chrome") -> "WebElement | Literal[False]":
        return next((found for found in page.find_elements(By.XPATH, where) if found.is_displayed()), False)

    wait = WebDriverWait(browser, PATIENCE, ignored_exceptions=[StaleElementReferenceException])
    return wait.until(visible, f"no {text!r} on {browser.current_url}")


def test_the_lineage_page_leads_to_why_the_model_is_in_production(
    browser: "Chrome", services: Services
) -> None:
    browser.get(f"{services.dagster}/locations/visionops/asset-groups/{services.project}")
    for asset in ASSETS:
        _see(browser, asset)
    _see(browser, "in_production").click()
    for said in ("version 2 promoted, replacing version 1", "training and", "Against version 1: images:"):
        _see(browser, said)


def test_the_lineage_of_all_projects_names_the_assets(browser: "Chrome", services: Services) -> None:
    browser.get(f"{services.dagster}/asset-groups")
    for asset in ASSETS:
        _see(browser, asset)


def test_failed_and_passed_checks_are_seen_with_their_reasons(browser: "Chrome", services: Services) -> None:
    page = f"{services.dagster}/assets/{services.project}"
    browser.get(f"{page}/evaluation?view=checks&checkDetail=beats_champion")
    _see(browser, "beats_champion")
    _see(browser, "Failed")
    _see(browser, "FAIL: Batch week-03")
    browser.get(f"{page}/manifest?view=checks&checkDetail=labels_known")
    _see(browser, "labels_known")
    _see(browser, "Passed")


def test_mlflow_shows_the_report(browser: "Chrome", services: Services) -> None:
    browser.get(f"{services.dagster}/assets/{services.project}/in_production")
    report = _see(browser, "/artifacts/reports/in_production_")
    browser.get(report.text)
    _see(browser, "reports/in_production_")
