"""The plain scorer, and the packed one beside it, against one forward pass for each turn and side.

Each test also stands for a defect that other scoring code has had.
"""

import itertools
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from c3l_ray import chat
from c3l_ray.inference.packed_scorer import PackedScorer
from c3l_ray.inference.plain_scorer import PlainScorer
from c3l_ray.inference.scorer_checks import AnswerScorer
from c3l_ray.inference.scoring_model import ScoringModel, TurnToScore
from c3l_ray.methods import c3l, i2c
from c3l_ray.methods.i2c import AnswerEvidence
from c3l_ray.model_config import ScorerModel
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.language import describe_scene
from tests.inference.builders import scene_turn

SCENES = [draw_scene(seed) for seed in range(6)]
TEXTS = [
    ("In a word, how many things are there?", "three"),
    ("What colour is the circle?", "The circle is red."),
    ("What does the image show?", describe_scene(SCENES[2])),
    ("Is there a blue star?", "No, there is no blue star."),
]
WORDING = c3l.INSTRUCTIONS["dialogue"][0]
INSTRUCTIONS = ["", *(c3l.format_instruction(WORDING, name) for name in ("text", "json"))]
TURNS = [
    replace(scene_turn(scene, *texts), instruction=instruction)
    for (scene, texts), instruction in zip(
        itertools.product(SCENES, TEXTS), itertools.cycle(INSTRUCTIONS), strict=False
    )
]


@pytest.fixture(scope="module")
def model() -> ScoringModel:
    return ScoringModel(ScorerModel(dtype="float32", max_tokens=600), str(world.LLAVA))


@pytest.fixture(scope="module", params=[PlainScorer, PackedScorer])
def scorer(request: pytest.FixtureRequest, model: ScoringModel) -> AnswerScorer:
    scorer: AnswerScorer = request.param(model)
    return scorer


def test_an_image_is_preprocessed_once_and_a_text_tokenised_once(
    model: ScoringModel, scorer: AnswerScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for it, and in whatever order the turns of the images come."""
    counts = Counter[str]()

    def count(owner: object, name: str) -> None:
        function = getattr(owner, name)

        def call(*args: object, **options: object) -> object:
            counts[name] += 1
            return function(*args, **options)

        monkeypatch.setattr(owner, name, call)

    count(type(model.processor.image_processor._image_processor), "__call__")
    count(chat, "tokenize_with_span")
    images = [TURNS[0].image.copy(), TURNS[4].image.copy()]
    # The model is that of the other scorer, which has read texts too.
    questions = [f"What is {number} to the {type(scorer).__name__}?" for number in range(3)]
    turns = [
        replace(TURNS[2], image=image, question=question, instruction=INSTRUCTIONS[1])
        for question in questions
        for image in images
    ]
    assert all(model.unscorable_status(turn) is None for turn in turns)
    assert all(model.unposable_status(turn) is None for turn in turns)
    scorer.measure(turns)
    assert counts == {"__call__": len(images), "tokenize_with_span": 3 * 3}


def answer_logits(model: ScoringModel, turn: TurnToScore, *, with_image: bool) -> torch.Tensor:
    """[A, V] logits at the answer's places: one row, nothing padded or skipped."""
    processor = model.processor
    prompt = chat.answer_prompt(processor, turn.question, with_image=with_image)
    text, _ = chat.render_turn(processor, turn.question, turn.answer, with_image=with_image)
    images = {"images": [turn.image]} if with_image else {}
    inputs = processor(text=text, **images, return_tensors="pt")
    num_prompt = processor(text=prompt, **images, return_tensors="pt")["input_ids"].shape[1]
    num_answer = len(processor.tokenizer(f" {turn.answer}", add_special_tokens=False)["input_ids"])
    with torch.inference_mode():
        logits: torch.Tensor = model.vlm(**inputs).logits[0]
    return logits[num_prompt - 1 : num_prompt - 1 + num_answer]


def posed_logprobs(model: ScoringModel, turn: TurnToScore) -> np.ndarray | None:
    """ln q of all that the model writes after the question, its end included, by its own pass."""
    if not turn.instruction:
        return None
    processor, answer = model.processor, turn.answer
    prompt = chat.answer_prompt(processor, turn.instruction, with_image=True)
    if turn.instruction.endswith("Answer:"):
        begun, rest = f" Question: {turn.question} Answer:", f" {answer}"
    else:
        begun, rest = f' {{"question": "{turn.question}", "answer": "', json.dumps(answer)[1:] + "}"
    images = [turn.image]
    num_begun = processor(text=prompt + begun, images=images)["input_ids"]
    inputs = processor(text=f"{prompt}{begun}{rest}</s>", images=images, return_tensors="pt")
    first = len(num_begun[0])
    ids = inputs["input_ids"][0, first:].tolist()
    assert ids[-1] == processor.tokenizer.eos_token_id
    with torch.inference_mode():
        logprobs = model.vlm(**inputs).logits[0, first - 1 : -1].log_softmax(-1).numpy()
    values: np.ndarray = logprobs[np.arange(len(ids)), ids]
    return values


def mean_gain(evidence: AnswerEvidence) -> float:
    return float(np.mean(evidence.image_logprobs) - np.mean(evidence.text_logprobs))


def is_close(left: AnswerEvidence, right: AnswerEvidence) -> bool:
    return all(
        (getattr(left, name) is None and getattr(right, name) is None)
        or np.allclose(getattr(left, name), getattr(right, name), atol=5e-5)
        for name in vars(left)
    )


def test_batches_equal_one_forward_per_turn_and_side(
    scorer: AnswerScorer, model: ScoringModel
) -> None:
    for turn, evidence in zip(TURNS, scorer.measure(TURNS), strict=True):
        ids = model.processor.tokenizer(f" {turn.answer}", add_special_tokens=False)["input_ids"]
        logits = [answer_logits(model, turn, with_image=with_image) for with_image in (True, False)]
        image, text = (side.log_softmax(-1).numpy() for side in logits)
        places = np.arange(len(ids))
        expected = AnswerEvidence(
            image_logprobs=image[places, ids],
            text_logprobs=text[places, ids],
            image_logits=logits[0].numpy()[places, ids],
            text_logits=logits[1].numpy()[places, ids],
            top1_with_image=image.argmax(-1) == ids,
            top1_without_image=text.argmax(-1) == ids,
            token_kl=(np.exp(image) * (image - text)).sum(-1),
            posed_logprobs=posed_logprobs(model, turn),
        )
        assert (evidence.posed_logprobs is None) == (turn.instruction == "")
        assert len(evidence.image_logprobs) == len(ids)
        assert is_close(evidence, expected)


def test_batch_mates_and_padding_do_not_change_a_score(scorer: AnswerScorer) -> None:
    together = scorer.measure(TURNS)
    for turn, evidence in zip(TURNS[:8], together, strict=False):
        assert is_close(scorer.measure([turn])[0], evidence)


def test_the_order_of_the_turns_is_kept(scorer: AnswerScorer) -> None:
    forwards, backwards = scorer.measure(TURNS), scorer.measure(TURNS[::-1])
    assert all(is_close(left, right) for left, right in zip(forwards, backwards[::-1], strict=True))


def test_escaped_answers_count_as_the_model_writes_them(
    scorer: AnswerScorer, model: ScoringModel
) -> None:
    turn = replace(TURNS[0], answer='It is "red",\nand large.', instruction=INSTRUCTIONS[2])
    (evidence,) = scorer.measure([turn])
    expected = posed_logprobs(model, turn)
    assert evidence.posed_logprobs is not None and expected is not None
    assert np.allclose(evidence.posed_logprobs, expected, atol=5e-5)


def test_the_posed_side_is_the_same_whatever_takes_the_images_place(
    scorer: AnswerScorer,
) -> None:
    turns = [turn for turn in TURNS if turn.instruction][:6]
    other = [replace(turn, baseline_image=TURNS[-1].image) for turn in turns]
    for bare, baseline in zip(scorer.measure(turns), scorer.measure(other), strict=True):
        assert bare.posed_logprobs is not None and baseline.posed_logprobs is not None
        assert np.allclose(bare.posed_logprobs, baseline.posed_logprobs, atol=5e-5)
        assert not np.allclose(bare.text_logprobs, baseline.text_logprobs, atol=1e-2)


def test_the_answer_is_forced_whatever_the_model_would_say(scorer: AnswerScorer) -> None:
    scene = next(
        scene
        for scene in map(draw_scene, range(99))
        if [thing.shape for thing in scene.things] == ["circle"]
    )
    colour = scene.things[0].colour
    right, wrong = (
        scorer.measure([scene_turn(scene, "What colour is the circle?", f"The circle is {c}.")])[0]
        for c in (colour, "green" if colour != "green" else "blue")
    )
    colour_place = 3  # The circle is >colour<
    assert right.image_logprobs[colour_place] > np.log(0.9)
    assert wrong.image_logprobs[colour_place] < np.log(0.05)
    assert mean_gain(right) > 0 > mean_gain(wrong)


def test_the_text_side_does_not_see_the_image(scorer: AnswerScorer) -> None:
    left, right = scorer.measure([scene_turn(scene, *TEXTS[1]) for scene in SCENES[:2]])
    assert np.allclose(left.text_logprobs, right.text_logprobs, atol=1e-5)
    assert not np.allclose(left.image_logprobs, right.image_logprobs, atol=1e-2)


def test_one_token_answers_have_k2_and_gain_and_no_k1(scorer: AnswerScorer) -> None:
    evidence = scorer.measure([scene_turn(SCENES[0], *TEXTS[0])])[0]
    scores = i2c.compute_scores(evidence)
    assert scores["i2c"] == 0 and (scores["i2c_vocab"] or 0) > 0 and scores["gain"] != 0


def test_long_answers_are_scored_to_the_end(scorer: AnswerScorer) -> None:
    answer = " ".join([describe_scene(SCENES[2])] * 5)
    evidence = scorer.measure([scene_turn(SCENES[2], "What does the image show?", answer)])[0]
    assert len(evidence.image_logprobs) >= 100
    assert np.all(evidence.image_logprobs < 0) and np.all(np.isfinite(evidence.image_logprobs))


def test_an_answer_that_its_question_holds_too_is_the_last_one(scorer: AnswerScorer) -> None:
    evidence = scorer.measure([scene_turn(SCENES[0], "In a word, is it red or blue?", "red")])[0]
    assert len(evidence.image_logprobs) == 1
