"""Judges as `daybreak prefer` asks them, each with its real classes."""

import json
import sys

import pytest
import torch
from PIL import Image
from tiny_models import own_cache, save_clip, save_mask2former

from daybreak.config import ConfigError
from daybreak.data.scenes.captions import words_of
from daybreak.data.scenes.draws import Draws
from daybreak.data.scenes.layout import scenes_of
from daybreak.data.scenes.render import render
from daybreak.data.scenes.world import ObjectSpec, SceneSpec
from daybreak.evaluate.geneval import detect
from daybreak.evaluate.geneval.prompts import parse_prompt
from daybreak.evaluate.geneval.scoring import Detection, judge
from daybreak.prefer.judges import check_judge, open_judge

CPU = torch.device("cpu")


def bytes_of(pictures) -> torch.Tensor:
    return ((torch.as_tensor(pictures) + 1) * 127.5).round().to(torch.uint8)


def noise(count: int, side: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_scenes_gives_the_share_of_what_is_asked_for():
    shown = SceneSpec("colors", (ObjectSpec("circle", "red", "large"),), None, "grey")
    picture = bytes_of(render(scenes_of([shown], Draws(3, torch.arange(1).numpy())), 64))
    asked = {
        "a large red circle on a grey background": 1.0,  # number, background, outline, shape, colour, size
        "a red circle": 1.0,
        "a large blue circle on a grey background": 5 / 6,
        "a small blue square on a white background": 2 / 6,
        "two large red circles on grey": 1 / 6,  # of another number, only the background is told
    }
    found = open_judge("scenes", {}, CPU).scores(picture.expand(len(asked), -1, -1, -1), list(asked))
    assert found == pytest.approx(list(asked.values()))
    assert words_of(shown, (0, 0)) in asked


def test_scenes_refuses_what_it_cannot_read():
    with pytest.raises(ConfigError, match='"a dog" is no short prompt of scenes'):
        open_judge("scenes", {}, CPU).scores(noise(1), ["a dog"])
    with pytest.raises(ConfigError, match="--judge scenes: the judge reads square pictures of at least 32 px"):
        open_judge("scenes", {}, CPU).scores(noise(1, 16), ["a red circle"])


def test_geneval_gives_the_share_of_its_requirements():
    row = {"tag": "two_object", "include": [{"class": "dog", "count": 1}, {"class": "cat", "count": 2}], "prompt": "x"}
    prompt = parse_prompt(json.dumps(row), "test")
    dog, cat = Detection("dog", 0.9, (0, 0, 9, 9)), Detection("cat", 0.9, (20, 0, 29, 9))
    assert [judge(prompt, seen, lambda _: []).met for seen in ([], [dog], [dog, cat], [dog, cat, cat])] == [
        0,
        0.5,
        0.5,
        1,
    ]


def test_geneval_judges_the_prompts_of_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(detect, "SHORT_PX", 64)  # in place of 800, which takes seconds
    row = {"tag": "single_object", "include": [{"class": "dog", "count": 1}], "prompt": "a photo of a dog"}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    weights = {"clip": str(save_clip(tmp_path / "clip"))}
    weights["mask2former"] = str(save_mask2former(tmp_path / "detector", ["dog", "cat"]))
    found = open_judge(f"geneval:{tmp_path / 'train.jsonl'}", weights, CPU)
    assert found.prompts == ["a photo of a dog"]
    images = noise(2, 64)
    detector = detect.Detector(weights["mask2former"], CPU)
    seen = [detector.detect(Image.fromarray(i.permute(1, 2, 0).numpy())) for i in images]
    prompt = parse_prompt(json.dumps(row), "test")
    assert found.scores(images, ["a photo of a dog"] * 2) == [judge(prompt, s, lambda _: []).met for s in seen]
    with pytest.raises(ConfigError, match="none of the prompts of its file"):
        found.scores(images[:1], ["a photo of a cat"])


def test_clipscore_and_a_reward_model_are_cosines(tmp_path):
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    folder = save_clip(tmp_path / "clip")
    images, prompts = noise(3, 48), ["a red circle", "two blue dog", "a photo of a green bench"]
    model, tokenizer = CLIPModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder)
    process = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    pixels = process([Image.fromarray(i.permute(1, 2, 0).numpy()) for i in images], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        logits = model(pixel_values=pixels, **tokenizer(prompts, padding=True, return_tensors="pt")).logits_per_image
    reference = logits.diagonal()
    assert reference.std() > 0.01
    found = torch.tensor(open_judge(str(folder), {}, CPU).scores(images, prompts))
    torch.testing.assert_close(found, reference, atol=1e-3, rtol=1e-3)
    clipped = torch.tensor(open_judge("clipscore", {"clip": str(folder)}, CPU).scores(images, prompts))
    cosine = reference / model.logit_scale.exp().item()
    torch.testing.assert_close(clipped, 100 * cosine.clamp(min=0), atol=2e-2, rtol=1e-3)


REDNESS = """
import json, pathlib, sys
from PIL import Image
folder = pathlib.Path(sys.argv[-1])
rows = [json.loads(line) for line in sys.stdin]
assert rows == [json.loads(line) for line in (folder / "metadata.jsonl").open()]
for row in rows:
    print(sum(Image.open(folder / row["file_name"]).convert("RGB").getdata(0)) / len(row["text"]))
"""


def command(tmp_path, script: str) -> str:
    (tmp_path / "judge.py").write_text(script)
    return f"{sys.executable} {tmp_path / 'judge.py'}"


def test_a_command_judges(tmp_path):
    images, prompts = noise(2), ["a red circle", "ein rötlicher Kreis"]
    found = open_judge(command(tmp_path, REDNESS), {}, CPU).scores(images, prompts)
    assert found == [i[0].sum().item() / len(p) for i, p in zip(images, prompts, strict=True)]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys; sys.exit('no model here')", "failed with 1: no model here"),
        ("print('good'); print(1)", "printed what is no number: 'good'"),
        ("print(1)", "printed 1 numbers for 2 pictures; it should print one a line"),
        ("", "printed 0 numbers for 2 pictures"),
        ("print(1); print('nan')", "printed nan; a score has to be finite"),
    ],
)
def test_a_command_that_gives_no_scores(tmp_path, script, said):
    with pytest.raises(ConfigError, match=said):
        open_judge(command(tmp_path, script), {}, CPU).scores(noise(2), ["a", "b"])


def test_what_is_no_judge_is_told_at_once(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.json").write_text('{"model_type": "blip"}')
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/config.json").write_text('{"model_type": "clip"}')
    for text, said in {
        "hpsv9": "neither a judge, a folder nor a program; it may be scenes, geneval:FILE",
        "": "neither a judge",
        "'open quote": "neither a judge",
        "geneval": "prompts that are not the evaluation's: --judge geneval:FILE",
        f"geneval:{tmp_path}/none": "none: GenEval's prompts cannot be read",
        str(tmp_path): "it has no config.json that names a model",
        str(tmp_path / "other"): "its config.json says 'blip'",
        str(tmp_path / "bare"): "weights are missing",
    }.items():
        with pytest.raises(ConfigError, match=said):
            check_judge(text)
