"""What the page offers beside drawing: examples, unseen words, sizes, links, search, two side by side."""

import base64

import pytest

from tests.vote.browser import MISSING, Browser

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

HELPERS = """
window.$ = (id) => document.getElementById(id);
window.type = (id, text) => { $(id).value = text; $(id).dispatchEvent(new Event('input', { bubbles: true })); };
window.count = (selector) => document.querySelectorAll(selector).length;
window.labels = () => [...document.querySelectorAll('.tile-label')].map((t) => t.textContent);
window.idle = () => $('go').textContent.trim() === 'Generate' && count('button.tile:enabled');
window.kept = async () => Promise.all((await (await import('/static/history.js')).all()).map(async (p) => ({
  settings: p.settings, png: btoa(String.fromCharCode(...new Uint8Array(await p.blob.arrayBuffer()))) })));
"""


@pytest.fixture(scope="module")
def two(finished_run, demo_run, serving):
    """A server of two models."""
    with serving(f"plain={finished_run}", f"demo={demo_run}", "--max-steps", "5000") as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile"), 1280, 900) as b:
        yield b


@pytest.fixture
def page(browser, two):
    return opened(browser, two.url, forget=True)


def opened(browser, url: str, forget: bool = False):
    browser.open("about:blank")  # else another #... would be the same page
    browser.open(url)
    browser.run(HELPERS)
    if forget:
        browser.run("import('/static/history.js').then((h) => h.clear()).then(() => window.cleared = true)")
        browser.wait("window.cleared")
        return opened(browser, url)
    browser.wait("document.querySelector('#size option') && document.querySelector('.example')")
    return browser


def kept(browser):
    browser.run("window.found = null; kept().then((all) => window.found = all)")
    return browser.wait("window.found")


def draw(browser):
    before = browser.run("return count('.thumb')")
    browser.click("#go")
    browser.wait(f"idle() && count('.thumb') > {before}")


def test_examples_are_captions_and_unseen_words_are_said(page):
    first = page.run("return document.querySelector('.example').textContent")
    page.click(".example")
    assert page.run("return $('prompt').value") == first
    page.click("#more-examples")
    assert page.run("return document.querySelector('.example').textContent") != first
    page.run("type('prompt', 'a Purpel ring, a dinosaur')")
    page.wait("!$('words').hidden")
    said = page.run("return $('words').textContent")
    assert said == "Not in the 10,000 captions looked at: purpel (purple?), dinosaur"
    page.click(".instead")
    page.wait("$('words').textContent.endsWith(': dinosaur')")
    assert page.run("return $('prompt').value") == "a purple ring, a dinosaur"
    page.run("type('prompt', 'a purple ring')")
    page.wait("$('words').hidden")


def test_sizes_that_it_was_not_trained_at_are_marked(page):
    groups = page.run(
        "return [...document.querySelectorAll('#size optgroup')].map((g) => [g.label, g.children.length])"
    )
    assert groups == [["trained at", 1], ["not trained at: may repeat or fall apart", 5]]
    assert page.run("return $('size').value") == "32x32" and page.run("return $('size-note').hidden")
    page.run("$('size').value = '64x64'; $('form').dispatchEvent(new Event('input'))")
    assert not page.run("return $('size-note').hidden")


def test_a_link_holds_all_settings_and_draws_the_same_picture(page, two):
    page.run(
        "type('prompt', 'a red circle & ✓'); type('negative', 'grey'); type('seed', '7'); type('steps', '3');"
        "type('guidance', '2'); $('size').value = '64x64'; $('form').dispatchEvent(new Event('input'))"
    )
    draw(page)
    (first,) = kept(page)
    page.run("document.querySelector('.thumb').click()")
    page.press("l")
    page.wait("$('copied').textContent")
    link = page.run("return import('/static/form.js').then((f) => f.linkOf(arguments[0]))", first["settings"])
    page.wait("location.hash.includes('seed=7')")  # the page's own address, too
    for address in (link, page.run("return location.href")):
        opened(page, address)
        draw(page)
    again = kept(page)
    assert [p["png"] for p in again] == [first["png"]] * 3
    fields = {"negative_prompt": "grey", "seed": 7, "steps": 3, "guidance": 2, "size": "64x64", "model": "plain"}
    answer = two.draw("a red circle & ✓", **fields)
    assert answer.json()["data"][0]["b64_json"] == first["png"]


def test_the_history_is_searched_by_all_words(page):
    for prompt in ("a red circle", "a blue square", "a red square"):
        page.run("type('prompt', arguments[0]); type('steps', '1')", prompt)
        draw(page)
    page.run("type('search', 'SQUARE red')")
    assert page.run("return [count('.thumb'), $('found').textContent]") == [1, "1 of 3"]
    page.click(".thumb")
    assert page.run("return [$('viewer-prompt').textContent, $('after').hidden]") == ["a red square", True]
    page.press("\ue00c")
    page.run("type('search', '')")
    assert page.run("return count('.thumb')") == 3


def test_two_models_and_two_seeds_are_drawn_side_by_side(page, two):
    page.run("type('prompt', 'a red circle'); type('seed', '5'); type('beside', ': demo')")
    draw(page)
    page.wait("count('.thumb') == 2")
    assert page.run("return labels()") == [
        "plain",
        "demo",
    ]
    drawn = {p["settings"]["model"]: p for p in kept(page)}
    for model, found in drawn.items():
        assert found["png"] == two.draw("a red circle", seed=5, model=model).json()["data"][0]["b64_json"]
    page.run("type('beside', 'a seed'); type('seed-beside', '9')")
    page.click("#go")
    page.wait("idle() && count('.thumb') == 4")
    assert page.run("return labels()") == [
        "seed 5",
        "seed 9",
    ]
    assert sorted(p["settings"]["seed"] for p in kept(page)[:2]) == [5, 9]
    page.run("document.querySelector('.thumb').click()")
    page.press("r")  # one picture's settings: nothing beside it
    assert page.run("return [$('beside').value, $('pictures').disabled]") == ["", False]


@pytest.mark.parametrize("width", [320, 400, 1280])
def test_nothing_sticks_out_with_all_of_it_open(page, width):
    page.show_as(width, 860, dark=False, phone=width < 800)
    try:
        opened(page, page.run("return location.href"))
        page.run("type('prompt', 'a ' + 'x'.repeat(80)); type('beside', 'a seed'); $('more').open = true")
        page.wait("!$('words').hidden")
        page.run("type('steps', '1')")
        draw(page)
        assert page.run("return document.documentElement.scrollWidth - innerWidth") <= 0
        for name in ("words", "examples", "beside", "search", "go"):
            left, right = page.run("const r = $(arguments[0]).getBoundingClientRect(); return [r.left, r.right]", name)
            assert left >= 0 and right <= width, name
        if width == 1280:  # the button is in sight however long the form is
            assert page.run("return $('go').getBoundingClientRect().bottom <= innerHeight")
    finally:
        page.show_as(1280, 900, dark=False, phone=False)


def test_a_server_that_goes_away_wipes_nothing_and_is_found_again(browser, finished_run, serving):
    with serving(finished_run, "--max-steps", "5000") as server:
        port = int(server.url.rsplit(":", 1)[1])
        page = opened(browser, server.url, forget=True)
        page.run("type('prompt', 'a red circle'); type('steps', '1')")
        draw(page)
        page.run("type('negative', 'grey'); $('steps').max = 5000; type('steps', '5000')")
        page.click("#go")
        page.wait("document.querySelector('.tile:not(.waiting) .tile-note')")
        server.process.kill()
        page.wait("!$('away').hidden")
    note = page.run("return document.querySelector('.tile-note').textContent")
    assert note.startswith("the server went away at step ") and note.endswith(" of 5000")
    page.click("#go")
    page.wait("idle() === 0 && $('go').textContent.trim() === 'Generate'")
    state = "return [$('prompt').value, $('negative').value, $('steps').value, count('.thumb')]"
    assert page.run(state) == ["a red circle", "grey", "5000", 1]
    assert page.run("return document.querySelector('.tile-note').textContent") == note  # what was seen stays
    with serving(finished_run, "--max-steps", "5000", port=port):
        page.wait("$('away').hidden")
        assert page.run(state) == ["a red circle", "grey", "5000", 1]
        page.run("type('steps', '1')")
        draw(page)
        assert len(base64.b64decode(kept(page)[0]["png"])) > 100
    page.errors()  # the broken connections are listed there
