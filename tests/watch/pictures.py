"""The pictures of docs/watching.md, of real runs: `python -m tests.watch.pictures RUNS RUN OTHER`.

daybreak train scenes --train.minutes 1 --out runs/a      and another one, as runs/b
python -m tests.watch.pictures runs a b
"""

from __future__ import annotations

import base64
import io
import sys
import time
from pathlib import Path

from PIL import Image
from selenium import webdriver

from daybreak.watch.report import write_report
from tests.watch.chromium import chromium
from tests.watch.watched import watching

DOCS = Path(__file__).parents[2] / "docs"
MOST_BYTES = 200_000


def take(
    driver: webdriver.Chrome, url: str, name: str, width: int, height: int, script: str, dark: bool = False
) -> None:
    """A picture of a page as DOCS/NAME, after a script has run in it."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    driver.get(url)
    driver.refresh()  # another place of the same page is no new page
    while not driver.execute_script("return document.querySelector('.run .tile img, .run .compare')"):
        time.sleep(0.1)
    driver.execute_script(script)
    time.sleep(2)
    save(driver, name)


def save(driver: webdriver.Chrome, name: str) -> None:
    """What the browser shows as DOCS/NAME, in as many colours as MOST_BYTES allow."""
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    picture = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
    for colours in (256, 128, 64, 32):
        file = io.BytesIO()
        picture.quantize(colours, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
        if len(file.getvalue()) < MOST_BYTES:
            break
    (DOCS / name).write_bytes(file.getvalue())
    print(name, colours, "colours,", len(file.getvalue()), "bytes")


def main(folder: str, run: str, other: str) -> None:
    """All of them."""
    report = write_report(Path(folder) / run).resolve().as_uri()
    with watching(folder) as server, chromium() as driver:
        take(driver, f"{server.url}/#/run/{run}", "watch_run.png", 1280, 1400, "")
        charts = "document.querySelector('[data-part=charts]').scrollIntoView()"
        take(driver, f"{server.url}/#/run/{run}", "watch_curves.png", 1280, 900, charts)
        take(driver, f"{server.url}/#/compare/{run}|{other}", "watch_compare.png", 1280, 1100, "")
        take(driver, report, "watch_phone.png", 400, 900, "scrollTo(0, 420)", dark=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
