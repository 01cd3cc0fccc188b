"""The whole of it, in Chromium: two voters, a killed server in between, and the figures."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("uvicorn", reason="needs the extra serve")

from browser import MISSING, Browser
from served import ITEMS, NAMES, ROOT, Server, two_folders

from tests.waiting import LONG

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

# What each voter thinks of each prompt: 0 and 1 are the contestants, - is a tie.
OPINIONS = ("0000-10-", "0100-011")
SEEN = """
    const see = (id) => {
      const canvas = document.createElement("canvas"), image = document.getElementById(id);
      canvas.width = canvas.height = 1;
      canvas.getContext("2d").drawImage(image, 0, 0, 1, 1);
      return [...canvas.getContext("2d").getImageData(0, 0, 1, 1).data];
    };
    return [see("left"), see("right"), document.getElementById("prompt").textContent];
"""
SHOWN = "state && !busy && !document.querySelector('#pair.loading')"


def opinion(browser: Browser, voter: int) -> str:
    """The choice that the voter makes of what is on the screen: left, right or tie."""
    left, right, prompt = browser.run(SEEN)
    item = round(left[1] / 10)
    assert round(right[1] / 10) == item
    assert prompt == f"prompt number {item}"
    whose = ["01"[left[0] < 120], "01"[right[0] < 120]]
    assert sorted(whose) == ["0", "1"]
    wanted = OPINIONS[voter][item]
    return "tie" if wanted == "-" else ("left", "right")[whose.index(wanted)]


def by_key(browser: Browser, choice: str) -> None:
    browser.press({"left": "1", "right": "2", "tie": "0"}[choice])


def by_arrow(browser: Browser, choice: str) -> None:
    browser.press({"left": "\ue012", "right": "\ue014", "tie": "\ue015"}[choice])


def by_thumb(browser: Browser, choice: str) -> None:
    browser.click(f"[data-choice={choice}]")


def vote(browser: Browser, voter: int, act, steps: int) -> None:
    for _ in range(steps):
        browser.wait(SHOWN)
        step = browser.run("return state.step")
        act(browser, opinion(browser, voter))
        browser.wait(f"state.step === {step + 1}")


def test_two_voters_and_a_crash(tmp_path):
    server = Server(*two_folders(tmp_path), "--out", "study", "--voters", 2, "--port", 0, cwd=tmp_path)
    again = None
    try:
        with (
            Browser(tmp_path / "desk", 1280, 800) as desk,
            Browser(tmp_path / "phone", 390, 844, dark=True, phone=True) as phone,
        ):
            desk.open(server.links[0])
            phone.open(server.links[1])
            vote(desk, 0, by_key, 3)
            vote(phone, 1, by_thumb, 2)

            # A slip, taken back; and a key pressed twice counts once.
            desk.wait(SHOWN)
            desk.press("0")
            desk.wait("state.step === 4 && !busy")
            desk.press("z")
            desk.wait("state.step === 3 && !busy")
            by_key(desk, choice := opinion(desk, 0))
            by_key(desk, choice)
            desk.wait(SHOWN + " && state.step === 4")

            phone.wait(SHOWN)
            server.kill()
            by_key(desk, opinion(desk, 0))
            by_thumb(phone, opinion(phone, 1))
            for browser in (desk, phone):
                browser.wait("!document.getElementById('notice').hidden")
                assert "Your votes are safe" in browser.text() or "your votes are safe" in browser.text()

            again = Server("--out", "study", "--port", server.port, "--voters", 2, cwd=tmp_path)
            assert again.links == server.links
            assert "4 of 8 votes" in again.output
            assert "2 of 8 votes" in again.output
            phone.open(again.links[1])  # reloaded before it could send: the vote waits in the browser's storage
            desk.wait(SHOWN + " && state.step === 5")
            phone.wait(SHOWN + " && state.step === 3")
            assert desk.run("return document.getElementById('notice').hidden")

            vote(desk, 0, by_arrow, ITEMS - 5)
            vote(phone, 1, by_thumb, ITEMS - 3)
            for browser in (desk, phone):
                browser.wait("state.finished")
                assert "Thank you" in browser.text()
        assert "all votes are kept" in again.stop()
    finally:
        for s in (server, again):
            if s and s.process.poll() is None:
                s.kill()
    check_results(tmp_path)


def check_results(folder: Path) -> None:
    """The figures that the opinions above give, counted here by hand."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "daybreak", "compare-blind", "--results", "study"],
        cwd=folder, env=os.environ | {"COLUMNS": "200", "PYTHONPATH": path}, capture_output=True, text=True,
        timeout=LONG,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with (folder / "study" / "votes.csv").open() as file:
        votes = list(csv.DictReader(file))
    assert len(votes) == 2 * ITEMS
    for v in votes:
        wanted = OPINIONS[int(v["voter"]) - 1][int(v["prompt"].split()[-1])]
        assert v["winner"] == ("" if wanted == "-" else NAMES[int(wanted)])
        assert 0 < float(v["seconds"]) < LONG
    with (folder / "study" / "results.csv").open() as file:
        rows = {(r["figure"], r["of"], r["against"]): r for r in csv.DictReader(file)}
    everything = "".join(OPINIONS)
    wins, ties, losses = (everything.count(c) for c in "0-1")
    duel = rows["win_rate", NAMES[0], NAMES[1]]
    assert [int(duel[k]) for k in ("wins", "ties", "losses")] == [wins, ties, losses] == [9, 3, 4]
    rate = (wins + ties / 2) / len(everything)
    assert float(duel["value"]) == pytest.approx(rate)
    # Wilson's interval has the x with (rate - x)² = z² x (1 - x) / n as its ends; n falls by the variance of prompts.
    worth = {"0": 1, "-": 0.5, "1": 0}
    sums = [worth[a] + worth[b] - 2 * rate for a, b in zip(*OPINIONS, strict=True)]
    between = ITEMS / (ITEMS - 1) * sum(r * r for r in sums) / 16**2
    n = min(16, max(ITEMS, rate * (1 - rate) / between))
    q = 1.959964**2 / n
    low, high = sorted(np.roots([1 + q, -2 * rate - q, rate**2]))
    assert (float(duel["low"]), float(duel["high"])) == pytest.approx((low, high), abs=1e-6)
    agree = sum(a == b for a, b in zip(*OPINIONS, strict=True)) / ITEMS
    assert float(rows["observed_agreement", "all voters", ""]["value"]) == pytest.approx(agree)
    shares = [[o.count(c) / ITEMS for c in "0-1"] for o in OPINIONS]
    chance = sum(a * b for a, b in zip(*shares, strict=True))
    assert float(rows["cohen_kappa", "voter 1", "voter 2"]["value"]) == pytest.approx((agree - chance) / (1 - chance))
    assert f"{NAMES[0]} against {NAMES[1]}" in done.stdout
    sentence = f"{NAMES[0]} is preferred in {rate:.0%} of 16 votes (95 % interval {low:.0%} to {high:.0%})"
    assert sentence in done.stdout
    report = (folder / "study" / "report.html").read_text()
    assert f"{rate:.1%}" in report and sentence in report
    assert "http" not in report  # self-contained


def test_three_questions_keep_the_pair_and_mark_the_way(tmp_path):
    words = [*two_folders(tmp_path), "--out", "study", "--questions", "overall,prompt,realism", "--pairs", 2]
    server = Server(*words, "--port", 0, cwd=tmp_path)
    try:
        with Browser(tmp_path / "profile") as browser:
            browser.open(server.links[0])
            browser.wait(SHOWN)
            asked, pictures = [], []
            for step in range(6):
                asked.append(browser.run("return document.getElementById('question').textContent"))
                pictures.append(browser.run(SEEN))
                assert browser.run("return document.querySelectorAll('#dots i').length") == 3
                browser.press("1")
                browser.wait(f"state.step === {step + 1} && !busy")
            assert asked[:3] == asked[3:]
            assert len(set(asked)) == 3
            assert pictures[0] == pictures[1] == pictures[2] != pictures[3] == pictures[4] == pictures[5]
            assert "all 2 pairs" in browser.text()
            assert browser.run("return document.getElementById('bar').getAttribute('aria-valuenow')") == "6"
            assert browser.errors() == []
    finally:
        server.kill()


def test_arrows_go_by_how_the_pictures_lie(tmp_path):
    server = Server(*two_folders(tmp_path), "--out", "study", "--port", 0, cwd=tmp_path)
    sent = "window.sent = []; const send_ = send; send = (b) => { sent.push(b.choice); return send_(b); };"
    try:
        with Browser(tmp_path / "profile") as browser:
            for width, height in ((1280, 720), (600, 900)):
                browser.show_as(width, height, dark=False, phone=False)
                browser.open(server.links[0])
                browser.wait(SHOWN)
                browser.run(sent)
                for key in "\ue012\ue013\ue014\ue015":  # left, up, right, down
                    browser.press(key)
                    browser.wait(SHOWN)
                wide = ["left", "right", "tie"]
                assert browser.run("return sent") == (wide if width > height else ["left", "tie", "right"])
            browser.open(server.links[0].split("/v/")[0])
            assert "Each voter has a link of their own" in browser.text() and browser.errors() == []
    finally:
        server.kill()


def test_everything_fits_the_screen(tmp_path):
    server = Server(*two_folders(tmp_path), "--out", "study", "--port", 0, cwd=tmp_path)
    try:
        with Browser(tmp_path / "profile") as browser:
            for width, height, dark in ((1280, 720, False), (1024, 600, True), (390, 844, False), (320, 568, True)):
                browser.show_as(width, height, dark, phone=width < 500)
                browser.open(server.links[0])
                browser.wait(SHOWN)
                check_screen(browser, width, height, dark)
    finally:
        server.kill()


def check_screen(browser: Browser, width: int, height: int, dark: bool) -> None:
    page = "document.documentElement"
    assert browser.run("return [innerWidth, innerHeight]") == [width, height]
    assert browser.run(f"return [{page}.scrollWidth, {page}.scrollHeight]") == [width, height]
    boxes = browser.run(
        "return ['#left', '#right', '[data-choice=left]', '[data-choice=tie]', '[data-choice=right]', '#undo']"
        ".map((s) => { const b = document.querySelector(s).getBoundingClientRect();"
        " return [b.left, b.top, b.right, b.bottom]; })"
    )
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
    first, second, *buttons, _ = boxes
    assert first[2] - first[0] == pytest.approx(second[2] - second[0])
    assert first[2] - first[0] >= 140
    if width < 500:
        assert first[3] <= second[1]  # one above the other
        assert all(b[3] - b[1] >= 48 and b[2] - b[0] >= 80 for b in buttons)
    else:
        assert first[2] <= second[0]
    paper = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(", "))) < 150) == dark
