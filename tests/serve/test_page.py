"""The page in a real browser (headless Chromium)."""

import io
import json

import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.watch.chromium import CAN_BROWSE, chromium, elements, until

pytestmark = pytest.mark.skipif(not CAN_BROWSE, reason="no chromium and chromedriver here")


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(downloads):
    with chromium(downloads) as driver:
        yield driver


@pytest.fixture
def page(browser, server):
    """The page with an empty history, its models loaded."""
    browser.get(server.url)
    browser.execute_async_script(
        "const done = arguments[0]; localStorage.clear();"
        "import('/static/history.js').then((history) => history.clear()).then(() => done())"
    )
    browser.refresh()
    until(browser, lambda: elements(browser, "#size option"))
    yield browser
    errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []


def element(browser, name: str):
    return browser.find_element(By.ID, name)


def draw(browser, prompt: str, seed: str = "") -> None:
    for name, text in (("prompt", prompt), ("seed", seed)):
        element(browser, name).clear()
        element(browser, name).send_keys(text)
    element(browser, "prompt").send_keys(Keys.ENTER)
    until(browser, lambda: elements(browser, "button.tile:enabled"))
    until(browser, lambda: element(browser, "go").text == "Generate")


def set_steps(browser, steps: int) -> None:
    browser.execute_script("const s = document.getElementById('steps'); s.max = 5000; s.value = arguments[0]", steps)


def test_a_picture_is_drawn_kept_reused_and_downloaded(page, downloads):
    draw(page, "a red circle", seed="11")
    draw(page, "a blue square / <b>", seed="12")
    assert len(elements(page, ".thumb")) == 2
    page.refresh()
    until(page, lambda: len(elements(page, ".thumb")) == 2)  # the history survives
    elements(page, ".thumb")[1].click()
    assert element(page, "viewer-prompt").text == "a red circle"
    page.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
    assert element(page, "viewer-prompt").text == "a blue square / <b>"
    page.switch_to.active_element.send_keys("d")
    file = downloads / "a-blue-square-b-12.png"
    until(page, file.exists)
    inside = json.loads(Image.open(io.BytesIO(file.read_bytes())).text["parameters"])
    assert (inside["prompt"], inside["seed"]) == ("a blue square / <b>", 12)
    page.switch_to.active_element.send_keys("r")
    assert not element(page, "viewer").is_displayed()
    assert element(page, "prompt").get_property("value") == "a blue square / <b>"
    assert element(page, "seed").get_property("value") == "12"
    draw(page, "a blue square / <b>", seed="12")
    same = page.execute_async_script(
        "const done = arguments[0]; import('/static/history.js').then((h) => h.all()).then(async (all) => {"
        "const [a, b] = await Promise.all(all.slice(0, 2).map((p) => p.blob.text())); done(a === b) })"
    )
    assert same


def test_a_dropped_picture_gives_its_settings_back(page, server):
    png = server.draw("from a file ✓", seed=5, steps=3, guidance=1.5).json()["data"][0]["b64_json"]
    page.execute_script(
        "const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0));"
        "const data = new DataTransfer(); data.items.add(new File([bytes], 'x.png', {type: 'image/png'}));"
        "document.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}))",
        png,
    )
    until(page, lambda: element(page, "prompt").get_property("value") == "from a file ✓")
    assert element(page, "seed").get_property("value") == "5"
    assert element(page, "steps").get_property("value") == "3"


def test_prompts_are_written_out_unless_told_not_to(browser, page, demo_run, serving):
    assert not element(page, "expand-field").is_displayed()  # of a model that does not
    with serving(demo_run) as server:
        browser.get(server.url)
        until(browser, lambda: elements(browser, "#size option"))
        assert element(browser, "expand-field").is_displayed()
        draw(browser, "a red circle", seed="5")
        elements(browser, ".thumb")[0].click()
        assert (
            "Written out as" in element(browser, "viewer-facts").text and "%" in element(browser, "viewer-facts").text
        )
        browser.switch_to.active_element.send_keys(Keys.ESCAPE)
        element(browser, "expand").click()
        draw(browser, "a red circle", seed="5")
        elements(browser, ".thumb")[0].click()
        assert "Written out as" not in element(browser, "viewer-facts").text
        browser.switch_to.active_element.send_keys("r")  # its settings come back with it
        assert not element(browser, "expand").is_selected()
        browser.get("about:blank")  # or the page would ask a server that is gone for the words it knows


def test_the_picture_emerges_and_escape_stops_it(page, server):
    name = 'daybreak_requests_total{model="run",outcome="cancelled"}'
    before = server.metric(name)
    element(page, "prompt").send_keys("slow")
    set_steps(page, 5000)
    element(page, "prompt").send_keys(Keys.ENTER)
    until(page, lambda: elements(page, ".tile:not(.waiting) img"))
    assert "step" in elements(page, ".tile-note")[0].text
    assert element(page, "go").text == "Stop"
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    until(page, lambda: element(page, "go").text == "Generate")
    until(page, lambda: server.metric(name) == before + 1)  # the server stops too
    assert not elements(page, ".thumb")


def test_errors_are_shown(page):
    element(page, "prompt").send_keys("x")
    page.execute_script("document.getElementById('size').add(new Option('0x37', '0x37', true, true))")
    element(page, "go").click()
    until(page, lambda: element(page, "problem").is_displayed())
    assert "size: must be auto or WIDTHxHEIGHT" in element(page, "problem").text
    until(page, lambda: element(page, "dawn").is_displayed())
    page.get_log("browser")  # the refused request is listed there


@pytest.mark.parametrize("width", [360, 768, 1300])
def test_nothing_sticks_out(page, width):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    draw(page, "a very-long-word" + "x" * 100)
    overflow = page.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
    elements(page, ".thumb")[0].click()
    viewer = page.execute_script(
        "const r = document.querySelector('.viewer').getBoundingClientRect(); return [r.left, r.right]"
    )
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert overflow <= 0
    assert viewer[0] >= 0
    assert viewer[1] <= width


def test_colours_follow_the_button(page):
    def paper() -> str:
        return page.execute_script("return getComputedStyle(document.body).backgroundColor")

    seen = []
    for _ in range(3):
        element(page, "theme").click()
        seen.append(paper())
    assert len(set(seen)) == 2  # light, dark, and the system's, which is one of them


def test_a_key_is_asked_for(browser, finished_run, serving, tmp_path):
    from daybreak.serve.keys import add_key

    key = add_key(tmp_path / "keys.txt", "anna", None)
    with serving(finished_run, "--keys", tmp_path / "keys.txt") as server:
        browser.get(server.url)
        until(browser, lambda: element(browser, "key").is_displayed())
        element(browser, "key").send_keys(key, Keys.ENTER)
        until(browser, lambda: elements(browser, "#size option"))
        draw(browser, "a red circle")
        until(browser, lambda: elements(browser, ".thumb"))
