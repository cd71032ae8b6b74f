"""The texts of two answers to one question, and which questions are learnt of a run."""

import logging
from pathlib import Path
from typing import Any

import pytest

from c3l_ray import chat
from c3l_ray.errors import PreflightError
from c3l_ray.methods import c3l
from c3l_ray.methods.answers import AnswerPair, AnswerRules
from c3l_ray.schema import Record
from c3l_ray.train.objectives import Answers
from c3l_ray.train.reading.answer_pairs import find_pairs, pair_texts
from c3l_ray.train.reading.chat_text import ChatText, Example
from c3l_ray.train.reading.encode import load_processor
from c3l_ray.train.reading.examples import make_example
from c3l_ray.train.reading.mixture import TurnDraw
from c3l_ray.train.reading.order import count_images
from c3l_ray.train.reading.sources import open_source
from c3l_ray.train.reading.training_data import load_training_data, summarize_mixture
from c3l_ray.train.training_config import Optimization, Progress
from tests import thinking
from tests.train import records
from tests.train.records import MakeTrainConfig, make_record, write_run

RULES = AnswerRules()


def list_targets(text: ChatText) -> list[str]:
    return [text.text[slice(*target)] for target in text.targets]


def expect_pair(record: Record, place: int) -> AnswerPair:
    pair = find_pairs(record, RULES)[place]
    assert isinstance(pair, AnswerPair)
    return pair


def test_the_answers_and_their_ends_are_learnt_and_the_question_is_not(processor: Any) -> None:
    record = make_record(0)
    turn = record["turns"][1]
    pair = expect_pair(record, 1)
    texts = pair_texts(record, 1, processor, RULES)
    prompt = chat.answer_prompt(processor, turn["instruction"], with_image=True)
    for text, answer in zip(texts, (pair.best, pair.worst), strict=True):
        assert text.text == f"{prompt} Question: {turn['question']} Answer: {answer}</s>"
        assert list_targets(text) == [f"{answer}</s>"] and text.ignored == ()


def test_an_answer_in_json_is_learnt_with_what_closes_the_object(processor: Any) -> None:
    record = make_record(0)
    turn = record["turns"][1]
    turn["instruction"] = c3l.format_instruction("Ask.", "json")
    turn["question"], turn["answer"] = 'Is "x" a\nstar?', 'Is "x" a\nstar?'
    alternatives = turn["alternatives"]
    assert alternatives and turn["scores"]
    alternatives[0]["answer"] = 'It is "red".'
    turn["scores"]["grounding"], alternatives[0]["scores"]["grounding"] = 9.0, -9.0  # type: ignore[index]
    best, worst = pair_texts(record, 1, processor, RULES)
    assert list_targets(best) == ['Is \\"x\\" a\\nstar?"}</s>']
    assert list_targets(worst) == ['It is \\"red\\"."}</s>']
    assert c3l.parse_reply(best.text[slice(*best.reply)]) == (turn["question"], turn["answer"])


def test_a_turn_made_elsewhere_is_asked_after_its_conversation(tmp_path: Path) -> None:
    processor = load_processor(thinking.write_model(tmp_path / "m", thinking.WITH_SYSTEM))
    record = make_record(0)
    for place, turn in enumerate(record["turns"]):
        turn["kind"], turn["instruction"] = ("given", "follow_up")[place > 0], "Be polite."
    record["turns"][3]["status"] = "empty"
    earlier = [(str(turn["question"]), str(turn["answer"])) for turn in record["turns"][:3]]
    question = str(record["turns"][4]["question"])
    pair = expect_pair(record, 4)
    for text, answer in zip(
        pair_texts(record, 4, processor, RULES), (pair.best, pair.worst), strict=True
    ):
        prompt = chat.answer_prompt(
            processor, question, with_image=True, history=earlier, system="Be polite."
        )
        assert text.text.startswith(prompt) and "Be polite." in prompt
        assert list_targets(text) == [f"{answer}</s>"]
    record["turns"][2]["kind"] = "given"  # which asks after nothing
    text, _ = pair_texts(record, 2, processor, RULES)
    assert not any(asked in text.text for asked, _ in earlier[:2])


def test_a_draw_says_which_turn_is_learnt(train_config: MakeTrainConfig, processor: Any) -> None:
    config, record = train_config(objective="answers"), make_record(0)
    for place in (1, 2, 4):
        example = make_example(record, processor, config, {}, TurnDraw(place, 0))
        assert isinstance(example, Example) and example.num_turns == 2
        assert example.texts == pair_texts(record, place, processor, RULES)
    evaluated = [make_example(make_record(number), processor, config, {}) for number in (0, 0, 1)]
    assert all(isinstance(example, Example) for example in evaluated)
    assert evaluated[0].texts == evaluated[1].texts  # type: ignore[union-attr]
    turn = record["turns"][1]
    turn["question"] = "the end</s>"
    assert make_example(record, processor, config, {}, TurnDraw(1, 0)) == "altered_text"


@pytest.mark.parametrize("by", ["grounding", "gain", "random"])
def test_questions_whose_answers_differ_are_learnt_and_the_others_counted(
    train_config: MakeTrainConfig, by: Any, caplog: pytest.LogCaptureFixture
) -> None:
    config = train_config(
        objective="answers", answers=Answers(by=by), progress=Progress(held_out=0.3)
    )
    write_run(*config.input, num_scenes=20, scenes_per_file=3)
    with caplog.at_level(logging.INFO, logger="c3l_ray"):
        data = load_training_data(open_source(config), config)
    num_images = count_images(data.files)
    assert num_images + count_images(data.held_out) == 20 and 0 < num_images < 20
    assert data.epoch_size == 3 * num_images and data.num_left_out == data.num_follow_ups == 0
    assert data.left_out_turns == {"no_alternatives": 20, "answers_agree": 20}
    assert f"{3 * num_images} questions to learn from" in caplog.text
    ((summary),) = summarize_mixture(data, config).values()
    assert summary == {"turns": 3 * num_images, "share": 1.0}
    (turn_set,) = data.sets
    learnt = {tuple(turn) for turn in turn_set.turns.tolist()}
    assert {place for _, _, place in learnt} == {1, 2, 4} and len(learnt) == 3 * num_images


def make_partly_posed_record(seed: int) -> Record:
    """Of the second turn no other answer was scored after the posing prompt, of the third one."""
    record = make_record(seed)
    for place, unposed in ((1, slice(0, 2)), (2, slice(0, 1))):
        for alternative in (record["turns"][place]["alternatives"] or [])[unposed]:
            assert alternative["scores"]
            alternative["scores"]["posed_logprob"] = None
    return record


def test_what_is_counted_is_what_is_read(
    train_config: MakeTrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "make_record", make_partly_posed_record)
    config = train_config(objective="answers", progress=Progress(held_out=0))
    write_run(*config.input, num_scenes=20)
    data = load_training_data(open_source(config), config)
    assert data.left_out_turns["unscored_answers"] == 20
    (turn_set,) = data.sets
    counted = {tuple(turn) for turn in turn_set.turns.tolist()}
    learnt = {
        (number, row, place)
        for number, file in enumerate(data.files)
        for row, record in enumerate(data.read(file.address, file.rows))
        for place, pair in find_pairs(record, config.answers).items()
        if isinstance(pair, AnswerPair)
    }
    assert learnt == counted and {place for _, _, place in learnt} == {2, 4}


def test_a_least_spread_leaves_turns_out(train_config: MakeTrainConfig) -> None:
    sizes = []
    for spread in (0.0, 0.4, 0.99):
        config = train_config(objective="answers", answers=Answers(min_spread=spread))
        write_run(*config.input, num_scenes=20)
        if spread < 0.9:
            data = load_training_data(open_source(config), config)
            sizes.append(data.epoch_size)
            assert data.left_out_turns.get("small_spread", 0) == 60 - data.epoch_size
        else:
            with pytest.raises(PreflightError) as refusal:
                load_training_data(open_source(config), config)
            message = str(refusal.value)
            assert "questions to learn from, fewer than --optim.batch-size 4" in message
            assert "small_spread 60, no_alternatives 20, answers_agree 20" in message
            assert "jobs.generate --answers" in message
    assert 10 < sizes[1] < sizes[0] == 60


def test_more_questions_than_images_fill_a_batch(train_config: MakeTrainConfig) -> None:
    config = train_config(
        objective="answers", optim=Optimization(batch_size=5), progress=Progress(held_out=0.0)
    )
    write_run(*config.input, num_scenes=2)
    assert load_training_data(open_source(config), config).epoch_size == 6
