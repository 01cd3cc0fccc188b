"""The server over HTTP: what voters get, and what they must not learn from it."""

import io
import json

import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("uvicorn", reason="needs the extra serve")

from served import ITEMS, NAMES, Server, get, two_folders


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("app")
    words = [*two_folders(folder), "--out", "study", "--voters", 3, "--questions", "overall,realism", "--port", 0]
    server = Server(*words, cwd=folder)
    yield server
    server.stop()


def state(link):
    return json.loads(get(link + "state")[2])


def test_links_differ_and_are_local(server):
    assert len(set(server.links)) == 3
    assert all(link.startswith("http://127.0.0.1:") for link in server.links)


def test_nothing_names_a_contestant(server):
    """Neither the page and its files, nor states, pictures, addresses or headers."""
    link = server.links[0]
    base = link.split("/v/")[0]
    received, addresses = [], []
    for url in (link, f"{base}/page/style.css", f"{base}/page/vote.js", f"{link}state"):
        received.append(get(url))
        addresses.append(url)
    for position in range(ITEMS):
        for side in ("left", "right"):
            addresses.append(f"{link}pictures/{position}/{side}")
            received.append(get(addresses[-1]))
    for status, headers, body in received:
        assert status == 200
        everything = (repr(headers).encode() + body).lower()
        for name in NAMES:
            for part in (name, name.split("-")[0]):
                assert part.encode() not in everything
        assert not {"etag", "last-modified", "server", "content-disposition"} & {h.lower() for h in headers}
        assert headers["referrer-policy"] == "no-referrer"
    assert not any(name in address for name in NAMES for address in addresses)


def test_every_pair_is_shown_once_with_both_contestants(server):
    seen = []
    lefts = []
    for position in range(ITEMS):
        colours = []
        for side in ("left", "right"):
            with Image.open(io.BytesIO(get(f"{server.links[1]}pictures/{position}/{side}")[2])) as image:
                assert not image.info  # text and times of the original
                colours.append(image.getpixel((5, 5)))
        (r0, g0, _), (r1, g1, _) = colours
        assert {r0, r1} == {200, 40}
        assert g0 == g1
        seen.append(g0 // 10)
        lefts.append(r0)
    assert sorted(seen) == list(range(ITEMS))
    assert lefts.count(200) == ITEMS / 2


def test_double_submission_and_undo_over_http(server):
    link = server.links[2]
    ballot = {"step": 0, "choice": "left", "submission": "a" * 32, "seconds": 1.25}
    for _ in range(3):
        answer = json.loads(get(link + "votes", ballot)[2])
        assert (answer["step"], answer["counted"]) == (1, True)
        assert (answer["pair"], answer["question_number"]) == (0, 1)
    answer = json.loads(get(link + "votes", ballot | {"submission": "b" * 32, "choice": "right"})[2])
    assert (answer["step"], answer["counted"]) == (1, False)
    for _ in range(2):
        assert json.loads(get(link + "undo", {"submission": "a" * 32})[2])["step"] == 0
    assert json.loads(get(link + "votes", ballot)[2])["counted"] is False  # withdrawn: a late retry
    assert state(link)["step"] == 0
    assert state(server.links[0])["step"] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"choice": "both"},
        {"step": -1},
        {"step": "x"},
        {"submission": "short"},
        {"submission": "x" * 65},
        {"seconds": -1},
        {"seconds": 1e9},
    ],
)
def test_a_malformed_vote_is_refused(server, wrong):
    ballot = {"step": 0, "choice": "left", "submission": "c" * 32, "seconds": 1}
    assert get(server.links[0] + "votes", ballot | wrong)[0] == 422
    assert state(server.links[0])["step"] == 0


def test_unknown_links_and_pictures_are_refused(server):
    base = server.links[0].split("/v/")[0]
    status, _, body = get(f"{base}/v/guess/")
    assert status == 404
    assert b"This link is not valid" in body
    for url in (
        f"{base}/v/guess/state",
        f"{base}/v/guess/pictures/0/left",
        f"{base}/page/..%2fvotes.py",
        f"{server.links[0]}pictures/{ITEMS}/left",
        f"{server.links[0]}pictures/-1/left",
        f"{base}/openapi.json",
        f"{base}/docs",
    ):
        assert get(url)[0] == 404, url
    assert get(f"{server.links[0]}pictures/0/middle")[0] == 422
    assert get(f"{base}/v/guess/votes", {"step": 0, "choice": "left", "submission": "d" * 32})[0] == 404
