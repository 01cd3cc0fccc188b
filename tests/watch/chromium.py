"""A headless Chromium for tests of pages and for their pictures in docs/."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.waiting import LONG

CHROMIUM = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
DRIVER = shutil.which("chromedriver")
CAN_BROWSE = CHROMIUM is not None and DRIVER is not None


@contextmanager
def chromium(downloads: Path | None = None) -> Iterator[webdriver.Chrome]:
    """A browser of 1280 by 900 that keeps what a page says on its console. downloads: where it saves files."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(argument)
    if downloads is not None:
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(LONG)
    driver.set_page_load_timeout(LONG)
    try:
        yield driver
    finally:
        driver.quit()


def until(browser: webdriver.Chrome, condition: Callable[[], Any]) -> Any:
    """Waits until `condition` is true, and returns it. What was replaced while it was looked at is looked at again."""
    wait = WebDriverWait(browser, LONG, 0.05, ignored_exceptions=[StaleElementReferenceException])
    return wait.until(lambda _: condition())


def elements(browser: webdriver.Chrome, selector: str) -> list[WebElement]:
    """All that a CSS selector finds now."""
    return browser.find_elements(By.CSS_SELECTOR, selector)
