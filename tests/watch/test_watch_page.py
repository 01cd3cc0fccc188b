"""The page of `daybreak watch`, and report.html, in a real browser (headless Chromium)."""

import json
import shutil
import subprocess
import sys

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from daybreak.run_requests import trains
from daybreak.train.loop import train
from daybreak.watch.report import Reporter, write_report
from tests.conftest import TINY, samples_as_users_see_them, tiny_config
from tests.train.ranks import environment
from tests.waiting import LONG
from tests.watch.chromium import CAN_BROWSE, chromium, elements, until
from tests.watch.watched import step_line, watching, write_run

pytestmark = pytest.mark.skipif(not CAN_BROWSE, reason="no chromium and chromedriver here")


@pytest.fixture(scope="module")
def browser():
    with chromium() as driver:
        yield driver
        said = [e["message"] for e in driver.get_log("browser") if e["level"] == "SEVERE"]
        assert [text for text in said if "ERR_CONNECTION_REFUSED" not in text] == []  # of servers that went away


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two real runs that sampled four times, and a written one."""
    folder = tmp_path_factory.mktemp("page") / "runs"
    for name, width in (("narrow", 32), ("wide", 48)):
        config = tiny_config(model__width=width, train__steps=8, train__sample_every=0.25, train__watch_every=2)
        with samples_as_users_see_them():
            train(config, folder / name, [Reporter(folder / name, print)])
    write_run(folder / "written <b>", 300)
    return folder


@pytest.fixture(scope="module")
def server(runs):
    with watching(runs) as found:
        yield found


def shown(browser, selector: str):
    """The first element there is, once it is there."""
    return until(browser, lambda: elements(browser, selector))[0]


def resized(browser, width: int, dark: bool = False) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    scheme = "dark" if dark else "light"
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )


def test_from_all_runs_to_one_and_through_its_moments(browser, server):
    browser.get(server.url)
    until(browser, lambda: len(elements(browser, ".run-card")) == 3)
    assert {e.text for e in elements(browser, ".run-name a")} == {"narrow", "wide", "written <b>"}
    shown(browser, "input[type=search]").send_keys("narr")
    until(browser, lambda: len(elements(browser, ".run-card")) == 1)
    shown(browser, ".run-name a").click()
    until(browser, lambda: len(elements(browser, ".strips > .card")) == 24)
    frames = elements(browser, ".strips > .card:first-child .frame")
    assert len(frames) == 4
    until(browser, lambda: "step-00000008" in shown(browser, ".strips .tile img").get_property("src"))
    slider = shown(browser, ".scrub input")
    slider.send_keys(Keys.HOME)
    until(browser, lambda: "step-00000002" in shown(browser, ".strips .tile img").get_property("src"))
    until(browser, lambda: "step 2," in shown(browser, ".scrub output").text)
    until(browser, lambda: "at step 2" in shown(browser, "[data-part=inside] h2").text)
    assert len(elements(browser, "[data-part=inside] canvas")) >= 6
    frames[3].click()
    until(browser, lambda: "step 8," in shown(browser, ".scrub output").text)
    shown(browser, ".strips .tile").click()  # one prompt, large, over time
    dialog = shown(browser, "dialog[open]")
    dialog.send_keys(Keys.ARROW_LEFT)
    until(browser, lambda: "step 6," in dialog.text)
    save = dialog.find_element(By.CSS_SELECTOR, "a[download]")
    assert save.get_attribute("download").endswith("-step-6.png")
    dialog.send_keys(Keys.ESCAPE)


def test_curves_have_axes_and_can_be_seen_over_time_and_logarithmically(browser, server):
    browser.get(f"{server.url}/#/run/written%20%3Cb%3E")
    until(browser, lambda: elements(browser, ".chart canvas"))
    titles = [e.text for e in elements(browser, ".chart figcaption b") if e.is_displayed()]
    assert titles[:2] == ["Loss", "Terms of the loss"] and "Speed" in titles
    drawn = browser.execute_script(
        "const c = document.querySelector('.chart canvas');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n"
    )
    assert drawn > 1000
    switch = shown(browser, ".chart figcaption button")
    assert switch.text == "log"
    switch.click()
    assert switch.text == "linear"
    for button, label in zip(
        elements(browser, ".choice button"), ("pictures seen", "training time", "steps"), strict=True
    ):
        button.click()
        assert button.get_attribute("aria-pressed") == "true" and button.text == label
    elements(browser, ".choice button")[0].click()


def test_runs_side_by_side(browser, server):
    browser.get(f"{server.url}/#/")
    browser.refresh()
    until(browser, lambda: len(elements(browser, ".run-card")) == 3)
    for name in ("narrow", "wide"):
        shown(browser, f"[aria-label='Compare {name}']").click()
    compare = shown(browser, ".head .go")
    assert compare.text == "Compare 2 runs"
    compare.click()
    settings = shown(browser, "[data-part=settings] table")
    assert "model.width 32 48" in settings.text.replace("\n", " ")
    until(browser, lambda: len(elements(browser, ".side tbody tr")) == 24)
    until(browser, lambda: "narrow" in shown(browser, ".side td img").get_property("src"))
    legend = [e.text for e in elements(browser, ".chart:first-child .u-legend .u-label")]
    assert {"narrow", "wide"} <= set(legend)


def test_what_a_run_writes_comes_by_itself_and_costs_one_line(browser, server, runs):
    browser.get(f"{server.url}/#/run/written%20%3Cb%3E")
    browser.refresh()
    tiles = "return document.querySelector('.tiles')?.textContent ?? ''"  # they are made anew while one looks at them
    until(browser, lambda: "300" in browser.execute_script(tiles))
    with (runs / "written <b>" / "log.jsonl").open("a") as log:
        log.write(step_line(301))
    browser.execute_script("document.dispatchEvent(new Event('visibilitychange'))")  # as when one comes back to it
    until(browser, lambda: "301" in browser.execute_script(tiles))


def test_a_server_that_goes_away_leaves_the_page(browser, runs):
    with watching(runs / "narrow") as server:
        browser.get(server.url)
        until(browser, lambda: len(elements(browser, ".strips > .card")) == 24)
        server.terminate()
        browser.execute_script("document.dispatchEvent(new Event('visibilitychange'))")
        until(browser, lambda: browser.execute_script("return document.body.hasAttribute('data-away')"))
        assert len(elements(browser, ".strips > .card")) == 24


def test_a_run_is_asked_from_the_page(browser, tmp_path):
    tiny = [f"--{name}={value}" for name, value in (TINY | {"train.steps": 100_000}).items()]
    words = [sys.executable, "-m", "daybreak", "train", "scenes", "--out", str(tmp_path / "run"), *tiny]
    training = subprocess.Popen(words, env=environment(), stdout=subprocess.DEVNULL)
    until(browser, lambda: trains(tmp_path / "run"))
    with training, watching(tmp_path / "run") as server:
        browser.get(server.url)
        prompt = shown(browser, ".ask input")
        prompt.send_keys("a red circle </b>", Keys.ENTER)
        picture = shown(browser, "[data-part=asked] .card")
        assert "a red circle </b>" in picture.text
        shown(browser, ".keepsakes textarea").send_keys("worth another look", Keys.TAB)
        until(browser, (tmp_path / "run" / "notes.yaml").is_file)
        stop = next(b for b in elements(browser, ".controls button") if b.text == "Stop")
        stop.click()
        assert stop.text.startswith("Really stop?") and training.poll() is None
        stop.click()
        assert training.wait(LONG) == 0
        state = "return document.querySelector('.state')?.textContent"
        until(browser, lambda: browser.execute_script(state) == "stands still")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 400, 768, 1280])
def test_nothing_sticks_out(browser, server, width, dark):
    resized(browser, width, dark)
    sticks = "return document.documentElement.scrollWidth - window.innerWidth"
    for place in ("#/", "#/run/narrow", "#/compare/narrow|wide|written%20%3Cb%3E"):
        browser.get(f"{server.url}/{place}")
        browser.refresh()
        until(browser, lambda: elements(browser, ".run"))
        until(browser, lambda: browser.execute_script(sticks) <= 0)
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) < 200) == dark


def test_the_report_shows_the_same_from_a_file(browser, runs):
    resized(browser, 1280)
    report = write_report(runs / "wide")
    browser.get(report.as_uri())
    until(browser, lambda: len(elements(browser, ".strips > .card")) == 24)
    until(browser, lambda: elements(browser, ".chart canvas"))
    broken = "return [...document.images].filter((i) => i.complete && !i.naturalWidth && i.getAttribute('src')).length"
    assert browser.execute_script(broken) == 0
    assert not elements(browser, ".controls") and "as of" in shown(browser, "h2.name").text
    assert len(elements(browser, "[data-part=inside] .looked")) == 10  # six prompts, four pictures
    asked = json.dumps(browser.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)"))
    assert "http" not in asked


def test_the_report_is_there_from_the_first_samples_on(runs, tmp_path):
    shutil.copytree(runs / "wide", tmp_path / "run")
    (tmp_path / "run" / "report.html").unlink()
    written = []

    class Looking:
        """Told after the reporter."""

        def on_samples(self, record) -> None:
            written.append((record.step, (folder / "report.html").is_file()))

        def on_step(self, record) -> None: ...

        def on_metrics(self, record) -> None: ...

        def on_alarm(self, record) -> None: ...

        def on_note(self, text) -> None: ...

    folder = tmp_path / "new"
    train(tiny_config(train__steps=4, train__sample_every=0.5), folder, [Reporter(folder, print), Looking()])
    assert written == [(2, True), (4, True)]
