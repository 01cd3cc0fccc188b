"""A headless Chromium for tests of pages and for their pictures in docs/."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from selenium import webdriver

from tests.waiting import LONG

CHROMIUM = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
DRIVER = shutil.which("chromedriver")
CAN_BROWSE = CHROMIUM is not None and DRIVER is not None


@contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    """A browser of 1280 by 900 that keeps what a page says on its console."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(LONG)
    driver.set_page_load_timeout(LONG)
    try:
        yield driver
    finally:
        driver.quit()
