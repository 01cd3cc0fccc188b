"""What the report of `daybreak prefer` says of pictures: FID and CLIPScore, with the real classes of both networks."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tiny_models import own_cache, save_pipeline, weights, write_pictures

from daybreak.commands.prefer import resume_prefer
from daybreak.config import ConfigError
from daybreak.data.pictures import open_square
from daybreak.evaluate.distribution import frechet_value
from daybreak.evaluate.features.extract import extract
from daybreak.evaluate.features.networks import Inception
from daybreak.evaluate.pictures import open_pictures
from daybreak.files import new_folder
from daybreak.finetune import settings as finetune_settings
from daybreak.hub_models import HUB_MODELS
from daybreak.parallel import Ranks
from daybreak.prefer.asked import check_prefer
from daybreak.prefer.figures import Yardstick
from daybreak.prefer.findings import Findings
from daybreak.prefer.lessons import Lessons
from daybreak.prefer.opening import begin_own
from daybreak.prefer.pairs import picture_tensor
from daybreak.prefer.panel import Panel, open_panel
from daybreak.prefer.pipeline_opening import begin_pipeline
from daybreak.prefer.prompts import Prompts
from daybreak.prefer.real_pictures import compare_with_real
from daybreak.prefer.settings import PreferSettings
from daybreak.train.loop import train
from tests.conftest import tiny_config
from tests.making import captioned_folder, prepared
from tests.prefer.test_prefer import picked

CPU = torch.device("cpu")
WHITE, BLACK = (250, 250, 250), (5, 5, 5)
FID = "FID of 50 pictures to 50 real ones"


@pytest.fixture(autouse=True)
def no_clip(monkeypatch):
    """Whatever its user has in the hub's cache."""
    monkeypatch.setitem(HUB_MODELS, "clip", ("nobody/no-such-clip", "1.7 GB", "CLIP of CLIPScore"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("real") / "pictures", 52, seed=3)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pick")
    words = [f"a {c} {s}" for c in ("red", "blue", "green") for s in ("dog", "cat", "circle")]
    picked(folder / "a.parquet", [(w, WHITE, BLACK, 1.0, 0.0) for w in words])
    (folder / "prompts.txt").write_text("\n".join(words))
    return folder


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):
    """A run on pictures."""
    folder, data = tmp_path_factory.mktemp("trained") / "run", {"data__source": "folder", "data__folder": str(pictures)}
    train(tiny_config(**data, train__steps=2, evaluate__grid_prompts="a dog"), folder, [])
    return folder


def learnt(begin, out, **settings):
    """The report of a run of two steps, and what the command said."""
    asked = check_prefer(PreferSettings(steps=2, batch=4, held_out=2, count=50, **settings), out)
    with new_folder(out) as building:
        building.mkdir()
        begin(asked, building, lambda _: None)
    if begin is begin_pipeline:  # drawn in less time
        drawn = replace(finetune_settings.load(out), sample_steps=1, sampler="ddim", sample_every=100)
        finetune_settings.save(drawn, out)
    told = Console(file=io.StringIO(), width=500)
    resume_prefer(told, asked, out)
    return json.loads((out / "report" / "report.json").read_text()), told.file.getvalue()


def test_a_run_on_pictures_is_compared_with_those_it_was_trained_on(trained, pairs, weights, tmp_path):
    run, given = tmp_path / "run", (f"inception={weights['inception']}", f"clip={weights['clip']}")
    found, _ = learnt(begin_own, run, run=str(trained), pairs=str(pairs), weights=given)
    assert "other judge, clipscore, held-out prompts" in found["figures"]
    network = Inception(Path(weights["inception"]), CPU, lambda _: None)
    folders = {n: open_pictures(run / "evaluation" / n, n) for n in ("reference", "before", "after")}
    sets = {n: extract(f, network, CPU, Ranks()) for n, f in folders.items()}
    expected = [frechet_value("fid", sets[n], sets["reference"], CPU) for n in ("before", "after")]
    assert found["figures"][FID] == pytest.approx(expected) and expected[0] != expected[1]
    # Each is drawn of the caption of a training picture.
    captions = [sorted(i.caption for i in f.items) for f in folders.values()]
    assert captions[0] == captions[1] == captions[2] and "a red circle" in captions[0]
    assert any("bias of few samples" in note for note in found["notes"])


def test_what_is_not_at_hand_is_a_line_and_no_failure(trained, pairs, tmp_path):
    found, told = learnt(begin_own, tmp_path / "run", run=str(trained), pairs=str(pairs))
    clip, fid = found["notes"]
    assert clip.startswith("CLIPScore was not measured: nobody/no-such-clip") and "--weights clip=FOLDER" in clip
    assert fid.startswith("FID was not measured: the standard Inception network") and "--weights inception=FILE" in fid
    assert clip in told and fid in told and "the standard Inception" in (tmp_path / "run" / "report.html").read_text()


def test_a_pipeline_is_compared_with_the_pictures_that_the_user_names(pairs, weights, tmp_path):
    base, run = save_pipeline(tmp_path / "base"), tmp_path / "run"
    real = write_pictures(tmp_path / "real", 50, seed=5, captions=False)
    given = (f"inception={weights['inception']}", f"clip={weights['clip']}")
    told = {"pairs": str(pairs), "captions": str(pairs / "prompts.txt"), "method": "lora", "weights": given}
    found, _ = learnt(begin_pipeline, run, run=str(base), reference=str(real), **told)
    assert FID in found["figures"] and "other judge, clipscore, held-out prompts" in found["figures"]
    # The real ones have no captions: prompts of the run are drawn.
    asked = (pairs / "prompts.txt").read_text().splitlines()
    assert {i.caption for i in open_pictures(run / "evaluation" / "after", "after").items} == set(asked)


def test_shards_may_be_named_and_a_rise_of_the_fid_is_an_alarm(weights, tmp_path):
    captioned_folder(tmp_path / "folder", 60, size=(80, 64))
    prepared(tmp_path / "folder", tmp_path / "shards")
    given = (f"inception={weights['inception']}",)
    settings = PreferSettings(run="-", pairs="-", count=56, reference=str(tmp_path / "shards"), weights=given)
    yardstick = Yardstick([], [], Panel(), 0)
    lessons = Lessons(settings, tmp_path, Prompts([], []), yardstick, lambda prompts, _: list(prompts))
    asked = []

    def alike(captions, *_):
        """The pictures themselves, which their captions number."""
        asked.extend(captions)
        files = [tmp_path / "folder" / f"{int(c.split()[-1]):04d}.jpg" for c in captions]
        return torch.stack([picture_tensor(open_square(f, 32, (0, 0, 0))) for f in files])

    def grey(_, numbers, seed):
        return torch.stack([torch.full((3, 32, 32), ((n + seed) % 7) / 7 - 0.5) for n in numbers])

    worse, better = Findings([]), Findings([])
    compare_with_real(worse, lessons, None, 32, CPU, alike, grey)
    compare_with_real(better, lessons, None, 32, CPU, grey, alike)
    assert len(set(asked)) == 56
    (row,), (other,) = worse.rows, better.rows
    assert row.what == "FID of 56 pictures to 56 real ones" and row.before == other.after < 0.01 < 0.1 < row.after
    assert (
        worse.alarms
        == [f"the FID to real pictures rose from {row.before:.4g} to {row.after:.4g}: drawn ones became less alike"]
        and not better.alarms
    )


def test_who_judges_where_nobody_says(weights, tmp_path):
    clip = (f"clip={weights['clip']}",)

    def panel(on_scenes=False, **settings):
        return open_panel(PreferSettings(run="-", weights=clip, **settings), on_scenes, CPU)

    assert panel(pairs="-").titles == {"check": "other judge, clipscore"}
    assert panel(judge="clipscore").titles == {"judge": "judge clipscore"}  # never itself
    assert panel(True, pairs="-").titles == {"check": "other judge, scenes"}
    assert panel(True, judge="scenes").titles == {"judge": "judge scenes"}
    both = panel(judge="true", check=weights["clip"])
    assert [*both.titles.values()][2] == "CLIPScore" and both.judges.keys() == {"judge", "check", "clipscore"}
    missing = PreferSettings(run="-", judge="true", weights=(f"clip={tmp_path / 'none'}",))
    with pytest.raises(ConfigError, match="none .* cannot be loaded"):  # which was asked for
        open_panel(missing, False, CPU)
    asked = PreferSettings(run="-", judge="true", reference="nowhere")
    with pytest.raises(ConfigError, match="--reference .*nowhere: no such folder"):
        check_prefer(replace(asked, run="scenes"), None)
