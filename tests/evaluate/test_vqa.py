"""DPG-Bench's scoring on synthetic answers; a tiny real LLaVA that answers; a tiny real Llama that rewrites prompts."""

import pytest
import torch
from PIL import Image
from tiny_models import own_cache, save_rewriter, write_pictures

from daybreak.config import ConfigError
from daybreak.evaluate.pictures import open_pictures
from daybreak.evaluate.questions import Question, read_questions
from daybreak.evaluate.vqa import Answerer, credited, measure_vqa
from daybreak.parallel import Ranks
from daybreak.sampling.rewrite import Rewriter
from tests.data.tiny_vlm import tiny_vlm

CPU = torch.device("cpu")
HEADER = "item_id,text,proposition_id,dependency,category_broad,question_natural_language\n"
ROWS = (
    "0,a red dog,1,0,entity,Is there a dog ?\n0,a red dog,2,1,attribute,Is a dog red ?\n"
    '0,a red dog,3,"1,2",relation,Is there a bench with a red dog ?\n1,a green square,1,0,entity,Is there a bench ?\n'
)


def test_a_question_counts_only_where_those_it_depends_on_do():
    chain = [Question(1, "", (), "e"), Question(2, "", (1,), "e"), Question(3, "", (2,), "e"), Question(4, "", (), "e")]
    assert credited(chain, {1: True, 2: True, 3: True, 4: False}) == {1: True, 2: True, 3: True, 4: False}
    assert credited(chain, {1: False, 2: True, 3: True, 4: True}) == {1: False, 2: False, 3: False, 4: True}
    assert credited(chain, {1: True, 2: False, 3: True, 4: True}) == {1: True, 2: False, 3: False, 4: True}


def test_questions_are_read_and_mistakes_named(tmp_path):
    path = tmp_path / "q.csv"
    path.write_text(HEADER + ROWS)
    found = read_questions(path)
    assert list(found) == ["a red dog", "a green square"]
    assert [q.parents for q in found["a red dog"]] == [(), (1,), (1, 2)]
    for text, message in (
        ("a,b\n1,2\n", "lacks the columns text, proposition_id"),
        (HEADER + "0,p,x,0,e,q\n", "line 2: invalid literal"),
        (HEADER + "0,p,1,7,e,q\n", "depends on 7, not there"),
        (HEADER, "holds no questions"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_questions(path)


def test_pictures_are_asked_and_scored(tmp_path):
    (tmp_path / "q.csv").write_text(HEADER + ROWS)
    questions = read_questions(tmp_path / "q.csv")
    answerer = Answerer(tiny_vlm(tmp_path / "vqa"), CPU)
    pictures = open_pictures(write_pictures(tmp_path / "p", 9, seed=1), "x")
    result = measure_vqa(pictures, questions, answerer, Ranks(), tmp_path)
    asked = [i for i in pictures.items if i.caption in questions]
    assert result.pictures == len(asked) == 2
    shares = []
    for item in asked:
        answers = {q.number: answerer.says_yes(Image.open(item.path), q.text) for q in questions[item.caption]}
        credit = credited(questions[item.caption], answers)
        shares.append(sum(credit.values()) / len(credit))
    assert result.value == pytest.approx(sum(shares) / 2)
    assert set(result.parts) == {"entity", "attribute", "relation"}
    assert (tmp_path / "vqa_lowest.png").exists()


def test_the_likelier_word_is_the_answer(tmp_path):
    answerer = Answerer(tiny_vlm(tmp_path / "vqa"), CPU)
    assert not answerer._yes & answerer._no
    yes, no = min(answerer._yes), min(answerer._no)
    head = answerer._model.get_output_embeddings()
    for better in (yes, no):
        with torch.no_grad():
            head.weight[:] = 0
            # Whatever the state, its dot product with itself is what one word gets.
            answerer._model.lm_head.bias = torch.nn.Parameter(
                torch.zeros(len(head.weight)).index_fill(0, torch.tensor(better), 5)
            )
        assert answerer.says_yes(Image.new("RGB", (20, 30)), "Is there a dog ?") is (better == yes)


def test_prompts_are_rewritten_alike_each_time(tmp_path):
    rewriter = Rewriter(str(save_rewriter(tmp_path / "llm")), CPU)
    written = rewriter.rewrite("a red dog")
    assert written and written == rewriter.rewrite("a red dog")
    with pytest.raises(ConfigError, match=r"hf download Qwen/.* --weights rewriter=FOLDER"):
        Rewriter(str(tmp_path / "nowhere"), CPU)
