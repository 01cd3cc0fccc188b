"""What a server knows of its models beside their limits: captions, words, sizes, the place in line."""

import json

import pytest
from PIL import Image

from daybreak.caption_words import CaptionWords, look_at, read_words, words_of, write_words
from daybreak.serve.about import about_model
from daybreak.train.loop import train
from tests.conftest import tiny_config
from tests.waiting import wait_until


def test_words_are_whole_and_nothing_is_said_of_scripts_without_spaces():
    assert words_of("A cat's Über-café, 3 dogs_x") == ["a", "cat's", "über", "café", "3", "dogs", "x"]
    assert words_of("猫と犬 cat") == ["cat"]
    known = look_at(["a purple cat", "a dog"])
    assert known.unseen("3 purpel cats, a cat; DINOSAUR dinosaur") == [
        ("purpel", "purple"), ("cats", "cat"), ("dinosaur", None)
    ]  # fmt: skip
    assert look_at(["a cat"], knows_others=True).unseen("dinosaur") == []
    assert look_at(["x" * 200, "two\nlines", "short", "short"]).examples == ("short",)


def test_a_run_on_pictures_keeps_its_words_and_one_that_goes_on_does_not_lose_them(tmp_path):
    folder, run = tmp_path / "pictures", tmp_path / "run"
    folder.mkdir()
    for i, caption in enumerate(["a green apple", "two pears", "a plum", "ein Apfel"]):
        Image.new("RGB", (32, 32), (40 * i, 0, 0)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(caption)
    config = tiny_config(data__source="folder", data__folder=str(folder), train__steps=1, train__batch=4)
    train(config, run, [])
    about = about_model(run, "run")
    assert about.words.unseen("a red aple") == [("red", None), ("aple", "apple")]
    assert set(about.words.examples) == {"a green apple", "two pears", "a plum", "ein Apfel"}
    assert (about.sides, about.ratio, about.words.count) == ((32,), 1.0, 4)
    (folder / "0.txt").write_text("a red apple")
    train(tiny_config(**{"data__source": "folder", "data__folder": str(folder), "train__steps": 2, "train__batch": 4}),
          run, [], resume=True)  # fmt: skip
    assert about_model(run, "run") == about


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"words": 3, "examples": [], "count": 1}'])
def test_where_nothing_is_known_nothing_is_said(tmp_path, content):
    assert read_words(tmp_path) == CaptionWords()
    (tmp_path / "captions.json").write_text(content)
    assert read_words(tmp_path) == CaptionWords() and read_words(tmp_path).unseen("dinosaur") == []
    write_words(tmp_path, look_at(["a cat"]))
    assert read_words(tmp_path) == look_at(["a cat"])


def test_the_page_asks_for_examples_and_for_words(server):
    known = server.http.get("/page/known").json()
    assert len(known["examples"]) > 10 and known["sides"] == [32] and known["ratio"] == 1.0
    asked = {"prompt": "a small purpel dinosaur next to two grey rings"}
    found = server.http.post("/page/unseen", json=asked).json()
    assert found["words"] == [{"word": "purpel", "close": "purple"}, {"word": "dinosaur", "close": None}]
    assert found["captions"] == 10_000
    assert server.http.post("/page/unseen", json={"prompt": "x" * 33_000}).status_code == 400
    assert server.http.get("/page/known?model=nobody").status_code == 404
    assert "/page" not in server.http.get("/openapi.json").text


def test_who_waits_is_told_the_place_in_line_and_the_seconds(finished_run, serving):
    with serving(finished_run, "--batch", "1", "--max-steps", "5000") as server:

        def drawing(steps):
            request = {"prompt": "a red circle", "steps": steps, "stream": True}
            return server.http.stream("POST", "/v1/images/generations", json=request)

        def place():
            with drawing(3) as answer:
                first = next(answer.iter_lines())
            assert first.startswith(": waiting ")  # a comment, which other clients pass over
            return json.loads(first.removeprefix(": waiting "))

        assert place()["seconds"] is None  # no picture was drawn so far
        server.draw(steps=3)
        with drawing(5000):
            found = wait_until(lambda: (p := place())["before"] == 1 and p, "one to be drawn before")
            assert 0 < found["seconds"] < 60
