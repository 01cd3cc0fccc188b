"""GenEval's rules on synthetic detections, its prompts, and the detector with a real tiny Mask2Former."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import own_cache, save_mask2former, weights

from daybreak.config import ConfigError
from daybreak.evaluate.features.networks import Clip
from daybreak.evaluate.geneval import scoring
from daybreak.evaluate.geneval.detect import Colors, Detector, cut_out, instances
from daybreak.evaluate.geneval.prompts import TASKS, parse_prompt, read_prompts
from daybreak.evaluate.geneval.scoring import Detection, confident, judge, relative_position

ROOT = Path(__file__).parents[2]
PUBLISHED = next((p for p in (ROOT / "../shared/data/geneval", ROOT / "../../shared/data/geneval") if p.exists()), ROOT)
LEFT, RIGHT, HIGH, LOW = (0, 40, 20, 60), (80, 40, 100, 60), (40, 0, 60, 20), (40, 80, 60, 100)


def prompt(tag: str, *include: dict, exclude: tuple[dict, ...] = ()):
    row = {"tag": tag, "include": list(include), "exclude": list(exclude), "prompt": "a picture"}
    return parse_prompt(json.dumps(row), "test")


def one(name: str, count: int = 1, **more) -> dict:
    return {"class": name, "count": count, **more}


def seen(name: str, confidence: float = 0.95, box=LEFT) -> Detection:
    return Detection(name, confidence, box)


def colors(*names: str):
    """A colour reader that knows the objects by their left edge: 0, 1, ..."""
    return lambda objects: [names[int(o.box[0])] for o in objects]


def unasked(_objects):
    raise AssertionError("no colour is asked for")


def test_single_object():
    p = prompt("single_object", one("bench"))
    assert judge(p, [seen("bench", 0.31)], unasked).correct
    assert not judge(p, [seen("bench", 0.3)], unasked).correct  # above the threshold, not at it
    assert judge(p, [seen("bench")] * 3 + [seen("dog")], unasked).correct  # more than asked for is no mistake
    assert judge(p, [seen("dog")], unasked).reason == "expected 1 bench, found 0"
    assert not judge(p, [], unasked).correct


def test_two_object():
    p = prompt("two_object", one("bench"), one("dog"))
    assert judge(p, [seen("dog", 0.4), seen("bench", 0.4)], unasked).correct
    assert judge(p, [seen("bench")], unasked).reason == "expected 1 dog, found 0"


def test_counting():
    p = prompt("counting", one("clock", 3), exclude=(one("clock", 4),))
    assert judge(p, [seen("clock", 0.91)] * 3, unasked).correct
    # The fourth is too faint to count, at 0.9 exactly as at 0.5.
    assert judge(p, [seen("clock")] * 3 + [seen("clock", 0.9), seen("clock", 0.5)], unasked).correct
    assert judge(p, [seen("clock")] * 4, unasked).reason == "expected fewer than 4 clock, found 4"
    assert judge(p, [seen("clock")] * 2 + [seen("clock", 0.89)], unasked).reason == "expected 3 clock, found 2"


def test_colors():
    p = prompt("colors", one("apple", color="black"))
    assert judge(p, [seen("apple", 0.5, (0, 0, 9, 9))], colors("black")).correct
    assert judge(p, [seen("apple", 0.5, (0, 0, 9, 9))], colors("red")).reason == "expected 1 black apple, found red"
    # Only the most confident object is looked at.
    both = [seen("apple", 0.5, (0, 0, 9, 9)), seen("apple", 0.8, (1, 0, 9, 9))]
    assert judge(p, both, colors("red", "black")).correct
    assert not judge(p, both, colors("black", "red")).correct


def test_position():
    p = prompt("position", one("bear"), one("dog", position=["right of", 0]))
    assert judge(p, [seen("bear", box=LEFT), seen("dog", box=RIGHT)], unasked).correct
    said = judge(p, [seen("bear", box=RIGHT), seen("dog", box=LEFT)], unasked)
    assert said.reason == "expected dog right of bear, found left of"
    missing = judge(p, [seen("dog", box=RIGHT)], unasked)
    assert missing.reason == "expected 1 bear, found 0; nothing that dog could be right of"
    inside = judge(p, [seen("bear", box=LEFT), seen("dog", box=LEFT)], unasked)
    assert inside.reason == "expected dog right of bear, found no side of"


def test_color_attr():
    p = prompt("color_attr", one("cup", color="red"), one("dog", color="blue"))
    objects = [seen("cup", box=(0, 0, 9, 9)), seen("dog", box=(1, 0, 9, 9))]
    assert judge(p, objects, colors("red", "blue")).correct
    assert (
        judge(p, objects, colors("blue", "red")).reason
        == "expected 1 red cup, found blue; expected 1 blue dog, found red"
    )


def test_a_position_in_relation_to_an_object_of_the_wrong_color_fails():
    p = prompt("position", one("cup", color="red"), one("dog", position=["above", 0]))
    objects = [seen("cup", box=(0, 50, 20, 70)), seen("dog", box=(0, 0, 20, 20))]
    assert judge(p, objects, lambda found: ["red"] * len(found)).correct
    assert "nothing that dog could be above" in judge(p, objects, lambda found: ["blue"] * len(found)).reason


def test_every_object_must_stand_to_every_target():
    p = prompt("position", one("cup", 2), one("dog", position=["above", 0]))
    cups = [seen("cup", 0.9, (0, 50, 20, 70)), seen("cup", 0.8, (0, 0, 20, 20))]
    assert not judge(p, [*cups, seen("dog", box=(0, 20, 20, 40))], unasked).correct
    assert judge(p, [cups[0], cups[0], seen("dog", box=(0, 0, 20, 20))], unasked).correct


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (LEFT, RIGHT, {"left of"}),
        (RIGHT, LEFT, {"right of"}),
        (HIGH, LOW, {"above"}),
        (LOW, HIGH, {"below"}),
        (LEFT, LEFT, set()),
        ((0, 0, 20, 20), (80, 80, 100, 100), {"left of", "above"}),  # a diagonal is both
        ((0, 0, 20, 20), (80, 30, 100, 50), {"left of"}),
        # The margin is a tenth of the added widths: 4 px here. 4 px are within it; at 10 px, 0.6 of the offset remain.
        ((0, 0, 20, 20), (4, 0, 24, 20), set()),
        ((0, 0, 20, 20), (10, 0, 30, 20), {"left of"}),
        ((0, 0, 20, 20), (7.9, 0, 27.9, 20), set()),  # beyond the margin, but less than half of the offset is
        ((0, 0, 20, 20), (8.1, 0, 28.1, 20), {"left of"}),
    ],
)
def test_relative_position(a, b, expected):
    assert relative_position(a, b) == expected


def test_at_most_sixteen_of_a_class_most_confident_first():
    many = [seen("cup", 0.3 + 0.02 * i) for i in range(1, 30)]
    kept = confident(many, "two_object")["cup"]
    assert len(kept) == scoring.MAX_OBJECTS
    assert [d.confidence for d in kept] == sorted((d.confidence for d in many), reverse=True)[:16]
    assert confident([seen("cup", 0.2)], "colors") == {}


def test_overall_is_the_mean_of_the_tasks():
    found = scoring.scores(["colors"] * 4 + ["position"], [True, False, False, False, True])
    assert found == {"colors": 0.25, "position": 1.0, "overall": 0.625}


@pytest.mark.skipif(PUBLISHED == ROOT, reason="the published prompts are not part of the project")
def test_the_published_prompts_can_all_be_read_and_satisfied():
    prompts = read_prompts(PUBLISHED / "evaluation_metadata.jsonl")
    assert len(prompts) == 553
    assert {p.task for p in prompts} == set(TASKS)
    names = (PUBLISHED / "object_names.txt").read_text().splitlines()
    assert {r.name for p in prompts for r in p.included} <= set(names)
    place = {"left of": LEFT, "right of": RIGHT, "above": HIGH, "below": LOW}
    for p in prompts:
        boxes = [place[r.relation] if r.relation else (40, 40, 60, 60) for r in p.included]
        right = [Detection(r.name, 0.95, b) for r, b in zip(p.included, boxes, strict=True) for _ in range(r.count)]
        asked = {r.name: r.color for r in p.included}
        read = lambda found, asked=asked: [asked[o.name] or "none" for o in found]  # noqa: E731
        assert judge(p, right, read).correct, p.text
        assert not judge(p, right[1:], read).correct, p.text
        if p.task == "counting":
            assert not judge(p, [*right, right[0]], read).correct, p.text
        if p.task in ("colors", "color_attr"):
            assert not judge(p, right, lambda found: ["none"] * len(found)).correct, p.text
        if p.task == "position":
            assert not judge(p, [Detection(d.name, 0.95, LEFT) for d in right], read).correct, p.text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{}", "'include' is missing"),
        ("[1]", "is no GenEval prompt"),
        ('{"tag": "x", "include": [], "prompt": "p"}', "tag 'x' is none of single_object"),
        ('{"tag": "colors", "include": [{"class": "a", "count": 1, "color": "teal"}], "prompt": "p"}', "color 'teal'"),
        (
            '{"tag": "position", "include": [{"class": "a", "count": 1, "position": ["above", 0]}], "prompt": "p"}',
            "refers to object 0, which does not come before it",
        ),
    ],
)
def test_a_wrong_prompt_is_named(tmp_path, line, message):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"tag": "colors", "include": [], "prompt": "p"}\n' + line)
    with pytest.raises(ConfigError, match="line 2") as e:
        read_prompts(path)
    assert message in str(e.value)


def test_instances_are_masks_boxes_and_confidences():
    # Two queries over 8 x 8 cells of a picture of 64 x 48 px that was padded from 48 to 64 rows.
    classes = torch.full((2, 4), -20.0)
    classes[0, 1], classes[1, 3] = 20.0, 20.0  # query 0: class 1; query 1: none
    masks = torch.full((2, 8, 8), -10.0)
    masks[0, 2:4, 1:5] = 10.0
    found = instances(classes, masks, ["a", "b", "c"], (48, 64), (64, 64), (96, 128))
    best = found[0]
    assert best.name == "b"
    assert best.confidence == pytest.approx(1, abs=0.06)
    assert best.box == pytest.approx((16, 32, 80, 64), abs=2)  # cells of 8 px, drawn at twice the size
    assert best.mask.shape == (96, 128)
    assert best.mask.sum() == pytest.approx(64 * 32, rel=0.1)
    assert all(d.confidence < 1e-6 for d in found[1:])


COCO = ["person", "motorbike", "mouse", "tvmonitor", "dog", "bench"]


def test_the_detector_runs_and_speaks_genevals_names(tmp_path):
    detector = Detector(str(save_mask2former(tmp_path / "m", COCO)), torch.device("cpu"))
    assert detector.names == ["person", "motorcycle", "computer mouse", "tv", "dog", "bench"]
    detector.check([prompt("two_object", one("tv"), one("computer mouse"))])
    with pytest.raises(ConfigError, match=r"knows no clock, zebra; GenEval needs one with COCO's 80 classes"):
        detector.check([prompt("two_object", one("zebra"), one("dog"), exclude=(one("clock"),))])
    pixels = np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    found = detector.detect(Image.fromarray(pixels))
    assert found
    assert {d.name for d in found} <= set(detector.names)
    for d in found:
        assert 0 <= d.confidence <= 1
        assert d.mask.shape == (40, 90)
        assert 0 <= d.box[0] < d.box[2] <= 90 and 0 <= d.box[1] < d.box[3] <= 40


def test_preparation_and_detections_agree_with_transformers(tmp_path):
    """On a square picture, which needs no padding: transformers' processor stretches others to a multiple of 32 px."""
    from transformers import Mask2FormerForUniversalSegmentation
    from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil

    from daybreak.evaluate.geneval.detect import _scaled

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    processor = Mask2FormerImageProcessorPil(size={"shortest_edge": 800, "longest_edge": 1333}, size_divisor=32)
    theirs = processor(images=[image], return_tensors="pt")
    pixels, mask = _scaled(image)
    assert pixels.shape == theirs["pixel_values"].shape
    torch.testing.assert_close(pixels, theirs["pixel_values"], atol=0.02, rtol=0.02)
    assert mask.all()
    model = Mask2FormerForUniversalSegmentation.from_pretrained(save_mask2former(tmp_path / "m", COCO)).eval()
    with torch.no_grad():
        output = model(pixel_values=pixels, pixel_mask=mask)
    ours = instances(
        output.class_queries_logits[0], output.masks_queries_logits[0], COCO, (800, 800), (800, 800), (64, 64)
    )  # fmt: skip
    (their,) = processor.post_process_instance_segmentation(output, threshold=0.0, target_sizes=[(64, 64)])
    for s in their["segments_info"][:3]:
        near = [d.confidence for d in ours if d.name == COCO[s["label_id"]]]
        assert min(abs(c - s["score"]) for c in near) < 0.01


def test_colors_are_read_from_cut_out_objects(weights):
    picture = np.zeros((40, 60, 3), dtype=np.uint8)
    picture[10:20, 30:50] = (255, 0, 0)
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:20, 32:50] = True
    found = Detection("dog", 0.9, (30, 10, 50, 20), mask)
    cut = np.asarray(cut_out(Image.fromarray(picture), found))
    assert cut.shape == (10, 20, 3)
    assert (cut[:, :2] == 0x99).all() and (cut[:, 2:] == (255, 0, 0)).all()
    reader = Colors(Clip("clip", weights["clip"], torch.device("cpu")), torch.device("cpu"))
    read = reader.of(Image.fromarray(picture), [found, found])
    assert len(set(read)) == 1  # a tiny CLIP says anything, but twice the same
    assert len(read) == 2
