"""From folders and runs to a study; what users get wrong; results as told."""

import csv
import json
import re
import socket
import sys

import numpy as np
import pytest
from PIL import Image, ImageCms
from rich.console import Console
from served import ITEMS, NAMES, two_folders

from daybreak.commands.compare_blind import show_results
from daybreak.config import ConfigError
from daybreak.data.batch import to_uint8
from daybreak.formats.run import load_averaged
from daybreak.parallel import pick_device
from daybreak.run_folder import load_run_config
from daybreak.sampling.generate import generate
from daybreak.train.loop import train
from daybreak.vote import study as studies
from daybreak.vote.contestants import Picture, contestants_of, match, names_of, read_folder, read_prompts
from daybreak.vote.pairs import pairs_of_study, schedule
from daybreak.vote.votes import Votes
from tests.conftest import tiny_config
from tests.in_process import here


def create(folder, paths, prompts=None, questions=("overall",), seed=0, limit=None):
    said = []
    return studies.create(folder, contestants_of(paths, ()), prompts, questions, seed, limit, said.append), said


def picture(path, colour=(1, 2, 3), size=(16, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def pixel(study_folder, item, contestant):
    with Image.open(studies.picture_path(study_folder, item, contestant)) as image:
        return image.getpixel((0, 0))


def test_a_study_holds_what_it_needs(tmp_path):
    study, _ = create(tmp_path / "study", two_folders(tmp_path))
    assert study.contestants == NAMES
    assert study.prompts == tuple(f"prompt number {i}" for i in range(ITEMS))
    assert studies.load(tmp_path / "study") == study
    for item in range(ITEMS):
        assert pixel(tmp_path / "study", item, 0) == (200, 10 * item, 90)
        assert pixel(tmp_path / "study", item, 1) == (40, 10 * item, 90)


def test_pictures_match_by_file_name_where_a_prompt_is_missing(tmp_path):
    for name in ("a", "b"):
        for i in range(3):
            picture(tmp_path / name / f"x{i}.{'png' if name == 'a' else 'jpg'}", (50 * i, 0, 0))
    (tmp_path / "a" / "x1.txt").write_text("the middle one")
    picture(tmp_path / "b" / "only_b.png")
    study, said = create(tmp_path / "study", [tmp_path / "a", tmp_path / "b"])
    assert study.prompts == ("", "the middle one", "")
    assert said == [f"1 pictures cannot be compared; {tmp_path / 'study' / 'skipped.jsonl'} says why"]
    assert "only_b.png: no such picture of a" in (tmp_path / "study" / "skipped.jsonl").read_text()


def test_pictures_of_one_prompt_go_with_each_other_in_turn():
    def folder(*prompts):
        return [Picture(f"{i}.png", str(i), p) for i, p in enumerate(prompts)]

    matches, lost = match(["a", "b"], [folder("x", "y", "x"), folder("y", "x", "z", "x")])
    assert [(m.prompt, m.pictures) for m in matches] == [
        ("x", ("0.png", "1.png")),
        ("y", ("1.png", "0.png")),
        ("x", ("2.png", "3.png")),
    ]
    assert lost == ["2.png: no such picture of a"]


def test_unreadable_pictures_are_listed_and_skipped(tmp_path):
    paths = two_folders(tmp_path)
    (paths[0] / f"{NAMES[0]}-2.png").write_bytes(b"no picture")
    (paths[1] / f"{NAMES[1]}-5.png").unlink()
    study, said = create(tmp_path / "study", paths)
    assert len(study.prompts) == ITEMS - 2
    assert said[-1].startswith("2 pictures cannot be compared")
    listed = (tmp_path / "study" / "skipped.jsonl").read_text()
    assert f"{NAMES[0]}-2.png: cannot identify" in listed and "-5.png: no such file" in listed
    assert f"{NAMES[1]}-5.png: no such file" in listed
    assert pixel(tmp_path / "study", 2, 0) == (200, 30, 90)  # numbered without gaps


def test_pictures_are_upright_opaque_and_not_too_large(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(tmp_path / name / "clear.png")
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by a quarter
        Image.new("RGB", (30, 10)).save(tmp_path / name / "turned.jpg", exif=exif)
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        Image.new("RGB", (4096, 1024)).save(tmp_path / name / "wide.png", icc_profile=profile, dpi=(300, 300))
    create(tmp_path / "study", [tmp_path / "a", tmp_path / "b"])
    assert pixel(tmp_path / "study", 0, 0) == (255, 255, 255)
    sizes = []
    for item in (1, 2):
        with Image.open(studies.picture_path(tmp_path / "study", item, 1)) as image:
            sizes.append((image.size, image.mode, image.info))
    assert sizes == [((10, 30), "RGB", {}), ((2048, 512), "RGB", {})]


def test_names_are_as_long_as_needed(tmp_path):
    assert names_of([tmp_path / "x" / "out", tmp_path / "y" / "out"]) == ["x/out", "y/out"]
    with pytest.raises(ConfigError, match="is given twice"):
        names_of([tmp_path / "x", tmp_path / "y" / ".." / "x"])


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("not json", "p.jsonl", "line 1 is not JSON"),
        ('{"caption": "x"}', "p.jsonl", r"line 1 needs a text \(or prompt\); it has caption"),
        ("\n\n", "p.txt", "holds no prompt"),
        ("[1]", "p.jsonl", "line 1 should be an object"),
    ],
)
def test_a_wrong_prompt_list_gets_one_line(tmp_path, text, name, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_prompts(tmp_path / name)


def test_prompt_lists_of_both_kinds(tmp_path):
    (tmp_path / "p.txt").write_text("one\n\n two \n")
    (tmp_path / "p.jsonl").write_text('{"prompt": "one"}\n{"text": "two"}\n')
    assert read_prompts(tmp_path / "p.txt") == read_prompts(tmp_path / "p.jsonl") == ["one", "two"]


def test_a_folder_is_read_as_all_commands_read_it(tmp_path):
    picture(tmp_path / "a" / "1.PPM")
    (tmp_path / "a" / "1.txt").write_bytes("caf\xe9".encode("cp1252"))
    picture(tmp_path / "a" / "below" / "2.png")
    (tmp_path / "a" / "below" / "2.caption").write_text("two")
    picture(tmp_path / "a" / ".hidden.png")
    picture(tmp_path / "a" / "3.jp2")
    assert {p.name: p.prompt for p in read_folder(tmp_path / "a")} == {"1": "caf\xe9", "below/2": "two", "3": None}
    picture(tmp_path / "elsewhere" / "4.png")
    (tmp_path / "b").mkdir()
    listed = f"file_name,text\n{tmp_path / 'elsewhere' / '4.png'},four\n"
    (tmp_path / "b" / "metadata.csv").write_text(listed)
    assert [(p.name, p.prompt) for p in read_folder(tmp_path / "b")] == [("4", "four")]


def test_a_wrong_list_of_pictures_gets_one_line(tmp_path):
    (tmp_path / "prompts.jsonl").write_text('{"file_name": "a.png"}\n')
    with pytest.raises(ConfigError, match="line 1 needs file_name and text; it has file_name"):
        read_folder(tmp_path)


def blind(words, cwd, monkeypatch, capsys):
    """`daybreak compare-blind words` in this process: (exit code, stdout, stderr)."""
    done = here(["compare-blind", *words], cwd, monkeypatch, capsys)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say what to compare: daybreak compare-blind A B"),
        ([NAMES[0]], "say what to compare: daybreak compare-blind A B"),
        ([NAMES[0], "nowhere"], "nowhere: no such folder of pictures, and no run folder"),
        ([NAMES[0], "empty"], "empty holds nothing to compare"),
        ([NAMES[0], NAMES[0]], "is given twice"),
        ([NAMES[0], "plain"], "have no file name in common"),
        (
            [*NAMES, "--questions", "beauty"],
            "--questions is 'beauty'; it must be one of overall, prompt, realism",
        ),
        ([*NAMES, "--questions", ","], "--questions is ''; it must be one of overall, prompt, realism"),
        ([*NAMES, "--prompts", "p.txt"], "--prompts has no effect here"),
        ([*NAMES, "--out", "plain"], "--out plain holds other files"),
        (["plain", "plain2", "--questions", "prompt"], "the question 'prompt' needs every picture's prompt"),
        (["--results", "nowhere"], "nowhere holds no blind comparison (no study.json)"),
        (["--results", "x", NAMES[0]], "--results DIR stands alone"),
    ],
)
def test_a_mistake_gets_one_line(tmp_path, monkeypatch, capsys, words, message):
    pytest.importorskip("fastapi", reason="needs the extra serve")
    two_folders(tmp_path)
    (tmp_path / "empty").mkdir()
    picture(tmp_path / "plain" / "p.png")
    picture(tmp_path / "plain2" / "p.png")
    code, _, err = blind(words, tmp_path, monkeypatch, capsys)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_another_comparison_is_not_continued(tmp_path, monkeypatch, capsys):
    create(tmp_path / "study", two_folders(tmp_path))
    for words, message in (
        ([NAMES[1], NAMES[0]], "(contestants:"),
        (["--seed", 3], "(--seed: 0, not 3)"),
        (["--questions", "realism"], "(--questions: overall, not realism)"),
        (["--pairs", 4], "(--pairs: all, not 4)"),
    ):
        code, _, err = blind(["--out", "study", *words], tmp_path, monkeypatch, capsys)
        assert code == 2
        assert f"--out study holds another comparison {message}" in err


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    two_folders(tmp_path)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    code, _, err = blind([*NAMES], tmp_path, monkeypatch, capsys)
    assert code == 2
    assert "the voters' page needs fastapi: pip install 'daybreak[serve]'" in err
    assert not (tmp_path / "runs").exists()


def test_a_taken_port_gets_one_line(tmp_path, monkeypatch, capsys):
    pytest.importorskip("fastapi", reason="needs the extra serve")
    two_folders(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = blind([*NAMES, "--port", port], tmp_path, monkeypatch, capsys)
    assert code == 2
    assert f"--host 127.0.0.1 --port {port} cannot be taken: Address already in use" in err


def test_results_of_three_contestants(tmp_path, monkeypatch, capsys):
    """Contestant 0 beats 1 beats 2, for everyone and on every prompt but one; a third voter never came."""
    for name in ("x", "y", "z"):
        for i in range(6):
            picture(tmp_path / name / f"{i}.png", size=(40, 40))
    study, _ = create(tmp_path / "study", [tmp_path / n for n in "xyz"])
    book = Votes(tmp_path / "study" / "votes.sqlite", study.questions)
    with pytest.raises(ConfigError, match="holds no votes yet"):
        show_results(Console(), tmp_path / "study")
    for voter in (1, 2, 3):
        book.add_voter(voter, schedule(pairs_of_study(6, 3, None, 0), 0, voter))
    for voter in (1, 2):
        for step, pair in enumerate(book.pairs(voter)):
            better = min(pair.left, pair.right) if pair.item != 5 else max(pair.left, pair.right)
            choice = "left" if pair.left == better else "right"
            assert book.cast(voter, step, choice, f"submission-{voter}-{step}", 2.0)
    book.close()
    code, out, _ = blind(["--results", "study"], tmp_path, monkeypatch, capsys)
    assert code == 0
    assert re.search(r"x against y +10 +0 +2 +83%", out)
    assert "voters agree on 100% of 18 pairs; Fleiss' kappa 1.00" in out
    assert "0 of 18" in out
    with (tmp_path / "study" / "results.csv").open() as file:
        scores = {r["of"]: float(r["value"]) for r in csv.DictReader(file) if r["figure"] == "bradley_terry"}
    assert scores["x"] > scores["y"] > scores["z"]
    assert scores["y"] == pytest.approx(0, abs=1e-9)
    assert scores["x"] == pytest.approx(-scores["z"])
    report = (tmp_path / "study" / "report.html").read_text()
    assert report.count("<figure>") == 6
    assert "voters 1 and 2: 1.00" in report


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of a few steps that differ in their seed."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        train(tiny_config(train__steps=2, train__seed=seed), folder / f"run{seed}", [], False)
    return [folder / "run0", folder / "run1"]


def test_runs_are_drawn_from_the_same_noise(runs, tmp_path):
    (tmp_path / "p.txt").write_text("a red circle\ntwo blue squares\na red circle\n")
    study, _ = create(tmp_path / "study", runs, tmp_path / "p.txt", seed=7)
    assert study.prompts == ("a red circle", "two blue squares", "a red circle")
    for k, run in enumerate(runs):
        config = load_run_config(run)
        model, text = load_averaged(run, config, pick_device())
        expected = to_uint8(generate(model, text, list(study.prompts), config, 7))
        for item in range(3):
            with Image.open(studies.picture_path(tmp_path / "study", item, k)) as image:
                np.testing.assert_array_equal(np.asarray(image), expected[item])
    assert not (tmp_path / "study" / "drawn").exists()


def test_a_run_draws_what_the_folder_beside_it_shows(runs, tmp_path):
    folder = two_folders(tmp_path)[0]
    study, _ = create(tmp_path / "study", [folder, runs[0]])
    assert study.prompts == tuple(f"prompt number {i}" for i in range(ITEMS))
    assert pixel(tmp_path / "study", 3, 0) == (200, 30, 90)


def test_runs_on_scenes_have_prompts_of_their_own(runs, tmp_path):
    study, _ = create(tmp_path / "study", runs)
    assert len(study.prompts) == 48
    assert json.loads((tmp_path / "study" / "study.json").read_text())["contestants"] == ["run0", "run1"]


def test_a_run_beside_pictures_without_prompts_asks_for_them(runs, tmp_path):
    picture(tmp_path / "plain" / "p.png")
    with pytest.raises(ConfigError, match="is a run and needs prompts: give --prompts FILE"):
        create(tmp_path / "study", [tmp_path / "plain", runs[0]])
