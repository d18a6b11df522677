"""A browser for the tests: Debian's Chromium without a window, and what can be seen on its page."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

PATIENCE = 90


@contextmanager
def running(profile: Path) -> "Iterator[Chrome]":
    """Chromium with its profile in a folder, gone afterwards; a test is skipped where there is none."""
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    binary, driver = next(filter(None, found), None), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no Chromium with its driver here: `apt-get install chromium chromium-driver`")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--window-size=1600,1000",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    chromium = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield chromium
    finally:
        chromium.quit()


def see(browser: "Chrome", text: str, times: int = 1, whole: bool = False) -> "WebElement":
    """Wait until a text can be seen in so many elements, and give the last of them."""
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    def found(page: "Chrome") -> "WebElement | Literal[False]":
        seen = _visible(page, text, whole)
        return len(seen) >= times and seen[times - 1]

    wait = WebDriverWait(browser, PATIENCE, ignored_exceptions=[StaleElementReferenceException])
    return wait.until(found, f"no {text!r} on {browser.current_url}")


def _visible(browser: "Chrome", text: str, whole: bool) -> "list[WebElement]":
    """The innermost elements that can be seen and hold a text, or where it is the `whole` text."""
    from selenium.webdriver.common.by import By

    said = f"normalize-space(.) = '{text}'" if whole else f"contains(normalize-space(.), '{text}')"
    where = f"//*[text()[{said}]]"
    return [found for found in browser.find_elements(By.XPATH, where) if found.is_displayed()]
