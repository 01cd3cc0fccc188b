"""Drawing on from a picture on the page: it is dropped, a mask painted by mouse, finger and keys; adapters."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from daybreak.finetune.loras import parts_of_own
from daybreak.formats.open import open_model
from tests.serve.test_chosen_loras import write_adapter
from tests.serve.test_page_offers import draw, kept, opened
from tests.vote.browser import MISSING, Browser

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

START = """
window.bytes = (b64) => Uint8Array.from(atob(b64), (c) => c.charCodeAt(0));
window.dropOn = (place, b64, name = 'x.png') => {
  const data = new DataTransfer(); data.items.add(new File([bytes(b64)], name, { type: 'image/png' }));
  place.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })); };
window.painted = () => {
  const c = $('start-mask');
  const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);
  return [...Array(c.width * c.height).keys()].map((i) => Number(data[4 * i + 3] > 127)); };
window.share = () => painted().reduce((a, b) => a + b) / painted().length;
window.framesPassed = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
window.boxOf = async (id) => {  // where it stands once the browser has kept its place beside what appeared above it
  await framesPassed();
  $(id).scrollIntoView({ block: 'center' });
  await framesPassed();
  const b = $(id).getBoundingClientRect();
  return [b.left, b.top, b.width, b.height]; };
"""


@pytest.fixture(scope="module")
def adapted(finished_run, tmp_path_factory, serving):
    parts = parts_of_own(*open_model(finished_run, torch.device("cpu"))[:2])
    style = write_adapter(parts, tmp_path_factory.mktemp("style") / "style.safetensors", 1)
    with serving(f"plain={finished_run}", "--lora", f"style={style}") as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile"), 1280, 900) as b:
        yield b


@pytest.fixture(scope="module")
def stripes() -> np.ndarray:
    rows = np.where(np.arange(32) // 2 % 2, 255, 0).astype(np.uint8)
    return np.repeat(np.repeat(rows[:, None, None], 32, 1), 3, 2)


def png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def pixels_of(b64: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(b64)))).astype(int)


@pytest.fixture
def page(browser, adapted, stripes):
    """The page with the picture dropped on it."""
    opened(browser, adapted.url, forget=True)
    browser.run(START)
    browser.run("type('prompt', 'a red circle'); type('seed', '5')")
    browser.run("dropOn(document, arguments[0])", png(stripes))  # it holds no settings: it is started from
    browser.wait("!$('start-chosen').hidden && share() === 0")
    yield browser
    assert [e for e in browser.errors() if "[DOM]" not in e] == []


def drag(browser, *places: tuple[float, float], touch: bool = False) -> None:
    """A stroke over the mask through places, shares of its width and height; by a finger, or the mouse."""
    left, top, width, height = browser.run("return boxOf('start-mask')")
    points = [{"x": left + x * width, "y": top + y * height} for x, y in places]
    if touch:
        for i, point in enumerate(points):
            kind = "touchMove" if i else "touchStart"
            browser.devtools("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
        browser.devtools("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        return
    for i, point in enumerate(points):
        kind = "mouseMoved" if i else "mousePressed"
        button = {"button": "left", "buttons": 1, "clickCount": 1}
        browser.devtools("Input.dispatchMouseEvent", {"type": kind, **point, **button})
    browser.devtools("Input.dispatchMouseEvent", {"type": "mouseReleased", **points[-1], **button})


def test_what_is_painted_is_drawn_anew_and_the_rest_kept(page, stripes):
    assert page.run("return [$('strength').value, $('size').value]") == ["0.6", "32x32"]
    drag(page, (0.0, 0.25), (0.5, 0.25), (1.0, 0.25))
    page.wait("$('mask-said').textContent.includes('% may change')")
    assert page.run("return $('strength').value") == "1"
    changes = np.array(page.run("return painted()"), bool).reshape(32, 32)
    assert changes[8].all() and not changes[20:].any()
    draw(page)
    (picture,) = kept(page)
    drawn = pixels_of(picture["png"])
    assert (drawn[~changes] == stripes[~changes]).all()
    assert np.abs(drawn[changes] - stripes[changes]).mean() > 20
    assert picture["settings"]["strength"] == 1
    page.click("#start-remove")
    assert page.run("return [$('start-choose').hidden, $('size').value]") == [False, "32x32"]
    page.click(".thumb")
    page.press("r")  # the picture and the mask come back with the settings
    page.wait("!$('start-chosen').hidden && share() > 0")
    assert (np.array(page.run("return painted()"), bool).reshape(32, 32) == changes).all()
    draw(page)
    assert kept(page)[0]["png"] == picture["png"]
    page.click(".thumb")
    page.press("s")  # what was drawn is the next start, and nothing is painted on it
    page.wait("!$('viewer').open && share() === 0")


def test_a_mask_by_keys_and_by_finger(page):
    for name, share in (("mask-all", 1), ("mask-invert", 0), ("mask-all", 1), ("mask-clear", 0)):
        page.run(f"$('{name}').focus()")
        page.press("\ue007")  # Enter
        assert page.run("return share()") == share
    page.run("$('start-mask').focus()")
    page.press(" ")
    dot = page.run("return share()")
    assert 0 < dot < 0.1
    page.press("]", "]", "]", *["\ue014"] * 4, " ")  # larger, four to the right
    assert page.run("return share()") > dot * 1.5
    page.run("$('mask-clear').click()")
    page.show_as(400, 800, dark=False, phone=True)
    drag(page, (0.2, 0.5), (0.8, 0.5), touch=True)
    page.wait("share() > 0.08")
    page.click("label:has(#erase)")
    drag(page, (0.2, 0.5), (0.8, 0.5), touch=True)
    page.wait("share() < 0.02")
    assert page.run("return document.documentElement.scrollWidth - innerWidth") <= 0
    page.show_as(1280, 900, dark=False, phone=False)


def test_a_drop_says_what_it_is_for(page, adapted, stripes):
    own = adapted.draw("from a file", seed=7, steps=2).json()["data"][0]["b64_json"]
    page.run("dropOn(document.querySelector('[data-as=start]'), arguments[0])", own)
    page.wait(f"share() === 0 && $('start-picture').width === {pixels_of(own).shape[1]}")
    assert page.run("return $('prompt').value") == "a red circle"
    page.run("dropOn(document.querySelector('[data-as=settings]'), arguments[0])", own)
    page.wait("$('prompt').value === 'from a file'")
    page.run("dropOn(document.querySelector('[data-as=settings]'), arguments[0])", png(stripes))
    page.wait("$('problem').textContent.includes('holds no settings')")
    page.run("dropOn(document, btoa('nothing'))")
    page.wait("$('problem').textContent.includes('is no picture')")


def test_adapters_have_sliders(page, adapted):
    page.click("#start-remove")
    plain, wanted = (
        adapted.draw("a red circle", seed=5, **more).json()["data"][0]["b64_json"]
        for more in ({}, {"loras": {"style": 0.8}})
    )
    draw(page)
    page.run("type('lora style', '0.8')")
    assert page.run("return document.querySelector('#lora-list output').textContent") == "0.80"
    draw(page)
    adapted_picture, base = kept(page)
    assert (pixels_of(base["png"]) == pixels_of(plain)).all()
    assert (pixels_of(adapted_picture["png"]) == pixels_of(wanted)).all()
    page.wait("location.hash.includes('loras')")
    address = page.run("return location.href")
    opened(page, address)
    page.wait("$('lora style')?.value === '0.8'")
