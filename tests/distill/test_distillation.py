"""Few-step students."""

import json

import pytest
import torch
from typer.testing import CliRunner

from daybreak.cli import app
from daybreak.config import ConfigError, load, override
from daybreak.diffusion import flow
from daybreak.distill.student import asked_distillation, student_config
from daybreak.formats.run import load_averaged
from daybreak.losses import distillation
from daybreak.losses.distillation_teacher import DistillationTeacher
from daybreak.model_folder import model_folder
from daybreak.sampling.generate import generate
from daybreak.sampling.sampler import FLOOR, euler_step, heun_step
from daybreak.train.loop import train
from tests.conftest import tiny_config


def grid_config(steps=2, substeps=3, shift=2.0):
    config = tiny_config(diffusion__shift=shift)
    return override(override(config, "distill.steps", steps), "distill.substeps", substeps)


def straight(x_t, _):
    """A denoiser whose trajectories are straight: all lead to 0.5 from wherever they are."""
    return torch.full_like(x_t, 0.5)


def curved(x_t, t):
    """A denoiser whose trajectories bend."""
    return torch.tanh(2 * x_t) * (1 - t.view(-1, 1, 1, 1)) + 0.3


def test_the_student_visits_a_part_of_the_teachers_times():
    config = grid_config(steps=4, substeps=8)
    fine = distillation.grid_times(config)
    assert torch.equal(fine[::8], distillation.grid_times(override(config, "distill.substeps", 1)))
    drawn = distillation.sample_grid_times(500, config, torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) == set(fine[:-1].tolist())


def test_a_student_that_is_its_teacher_is_done_where_trajectories_are_straight():
    config = grid_config()
    times = distillation.grid_times(config)[:-1]
    x = torch.randn(len(times), 3, 8, 8, generator=torch.Generator().manual_seed(0))
    target = distillation.consistent(x, times, straight, straight, config)
    torch.testing.assert_close(target, straight(x, times), atol=1e-5, rtol=1e-5)


def test_targets_are_the_papers():
    """Row by row: a teacher's step, then the student's to the end of the segment, then one step for both."""
    config = grid_config(steps=2, substeps=3)
    times = distillation.grid_times(config)
    x = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    got = distillation.consistent(x, times[:-1], curved, straight, config)
    for i in range(6):
        now, then, end = times[i], times[i + 1], times[3 if i < 3 else 6]
        x_s = heun_step(curved, x[i : i + 1], now[None], then[None])
        if then != end:
            x_s = euler_step(straight, x_s, then[None], end[None])
        v = (x_s - x[i : i + 1]) / (end - now)
        torch.testing.assert_close(got[i : i + 1], flow.to_x0(x[i : i + 1], v, now[None], FLOOR), atol=1e-5, rtol=1e-5)
        reached = euler_step(lambda *_, i=i: got[i : i + 1], x[i : i + 1], now[None], end[None])
        torch.testing.assert_close(reached, x_s, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "run"
    train(tiny_config(train__steps=100, train__sample_every=1.0, train__ema=0.9, sample__steps=16), folder, [])
    return folder


def distance_to(teacher_pictures, networks, config):
    prompts = ["a red circle", "a small blue square", "two green rings", "a cross"] * 4
    return float((generate(*networks, prompts, config, 3) - teacher_pictures).square().mean().sqrt())


@pytest.mark.slow
def test_a_student_draws_in_two_steps_what_its_teacher_needs_sixteen_for(teacher, tmp_path):
    out = tmp_path / "student"
    words = ["distill", str(teacher), "--steps", "2", "--out", str(out), "--train.steps", "80", "--distill.guidance",
             "2", "--train.minutes", "none", "--train.ema", "0.9", "--evaluate.prompts_per_task", "2"]  # fmt: skip
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    first, hurried, student = json.loads((out / "distillation.json").read_text())
    assert (first["steps"], hurried["steps"], student["steps"]) == (16, 2, 2)
    assert (out / "distillation.png").exists()
    last = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "score" and last["values"]["distance"] == student["distance"]

    own = override(load(teacher / "config.yaml"), "sample.guidance", 2.0)
    networks = load_averaged(teacher, own, torch.device("cpu"))
    prompts = ["a red circle", "a small blue square", "two green rings", "a cross"] * 4
    wanted = generate(*networks, prompts, own, 3)
    config = load(out / "config.yaml")
    assert (config.sample.steps, config.sample.guidance) == (2, 1.0)
    few = distance_to(wanted, networks, override(own, "sample.steps", 2))
    learned = distance_to(wanted, load_averaged(out, config, torch.device("cpu")), config)
    assert learned < 0.8 * few


def test_a_student_resumes_to_the_same_weights(finished_run, tmp_path):
    from daybreak.commands.distill import start

    config = student_config(load(finished_run / "config.yaml"), finished_run, 2, 1.0)
    config = override(override(config, "train.minutes", None), "train.steps", 6)
    weights = []
    for name, stops in (("whole", (6,)), ("parts", (2, 6))):
        start(finished_run, load(finished_run / "config.yaml"), config, tmp_path / name)
        for steps in stops:
            part = override(config, "train.steps", steps)
            part = override(override(part, "optim.decay_share", 0.0), "train.sample_every", 1.0)
            state = train(part, tmp_path / name, [], resume=True)
        weights.append(torch.cat([p.detach().flatten() for p in state.parameters()]))
    assert torch.equal(*weights)


def test_mistakes_get_one_line(finished_run, tmp_path):
    config = student_config(load(finished_run / "config.yaml"), finished_run, 2, 1.0)
    with pytest.raises(ConfigError, match="draws in few steps already"):
        student_config(config, tmp_path, 2, 1.0)
    with pytest.raises(ConfigError, match=r"distill\.teacher: .*no such folder"):
        DistillationTeacher.open(override(config, "distill.teacher", str(tmp_path / "gone")))
    with pytest.raises(ConfigError, match="noise_scale is 2"):
        DistillationTeacher.open(override(config, "diffusion.noise_scale", 2.0))
    for words, message in ((["distill"], "say which run"), (["distill", str(tmp_path / "gone")], "no such run folder")):
        done = CliRunner().invoke(app, words)
        assert isinstance(done.exception, ConfigError) and message in str(done.exception)


def test_the_model_in_the_box_teaches_by_its_name(tmp_path):
    asked = asked_distillation(["scenes", "--train.batch", "4"], 4, 1.0, tmp_path / "student")
    assert asked.run == model_folder("scenes") and asked.teacher.recipe == "scenes-box"
    assert (asked.config.sample.steps, asked.config.train.batch) == (4, 4)
