"""The pictures of the server's page and of the blind comparison's in docs/: `python -m tests.pages OLD_RUN`.

They are those of real programs: the model in the box draws, and people would choose between it and a weaker run.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.program import started
from tests.serve.running import serving
from tests.waiting import wait_until
from tests.watch.chromium import chromium
from tests.watch.pictures import save

PROMPTS = [
    "a large red circle above a small blue square", "three small rings", "a yellow triangle left of a purple square",
    "a green ring", "two orange squares", "a small cyan circle on a grey background",
]  # fmt: skip


def server(name: str) -> None:
    """The page of `daybreak serve scenes` with a few pictures."""
    with serving("scenes") as running, chromium() as driver:
        driver.get(running.url)
        wait_until(lambda: driver.find_elements(By.CSS_SELECTOR, "#size option"), "the page")
        for number, prompt in enumerate(PROMPTS):
            field = driver.find_element(By.ID, "prompt")
            field.clear()
            field.send_keys(prompt)
            field.send_keys(Keys.ENTER)
            wait_until(lambda: len(driver.find_elements(By.CSS_SELECTOR, ".thumb")) > number, prompt)  # noqa: B023
        time.sleep(1)
        save(driver, name)


def blind(run: str, name: str) -> None:
    """A voter's page: two pictures of one prompt."""
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.txt"
        prompts.write_text("\n".join(PROMPTS))
        words = ["compare-blind", run, "scenes", "--prompts", prompts, "--out", Path(folder) / "study", "--port", "0"]
        with started([sys.executable, "-m", "daybreak", *words], COLUMNS="200", PYTHONUNBUFFERED="1") as program:
            link = program.url(r"(http://127\S+/\S+)")
            with chromium() as driver:
                driver.get(link)
                wait_until(lambda: driver.find_elements(By.CSS_SELECTOR, "img"), "two pictures")
                time.sleep(1)
                save(driver, name)


if __name__ == "__main__":
    server("serve_page.png")
    blind(sys.argv[1], "blind_page.png")
