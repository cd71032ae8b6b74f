"""Both scorers against a forward pass a turn, and the defects that others have had."""

import itertools

import numpy as np
import pytest
import torch

from c3l_ray import chat
from c3l_ray.config import Scorer
from c3l_ray.inference.scoring_model import Asked, Frozen
from c3l_ray.inference.packed_scorer import PackedScorer
from c3l_ray.inference.plain_scorer import PlainScorer
from c3l_ray.inference.turn_scorer import Measures
from c3l_ray.methods import i2c
from c3l_ray.methods.i2c import AnswerEvidence
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import Scene, draw_scene, render
from c3l_ray.scenes.language import describe

SCENES = [draw_scene(seed) for seed in range(6)]
TEXTS = [
    ("In a word, how many things are there?", "three"),
    ("What colour is the circle?", "The circle is red."),
    ("What does the image show?", describe(SCENES[2])),
    ("Is there a blue star?", "No, there is no blue star."),
]


def asked(scene: Scene, question: str, answer: str) -> Asked:
    return Asked(image=render(scene), question=question, answer=answer)


ASKED = [asked(scene, *text) for scene, text in itertools.product(SCENES, TEXTS)]


@pytest.fixture(scope="module")
def frozen() -> Frozen:
    return Frozen(Scorer(dtype="float32", max_tokens=600), str(world.LLAVA))


@pytest.fixture(scope="module", params=[PlainScorer, PackedScorer])
def scorer(request: pytest.FixtureRequest, frozen: Frozen) -> Measures:
    return request.param(frozen)


def alone(frozen: Frozen, turn: Asked, *, image: bool) -> torch.Tensor:
    """[A, V] logits at the answer's places: one row, nothing padded or skipped."""
    processor = frozen.processor
    prompt = chat.answer_prompt(processor, turn.question, image=image)
    text, _ = chat.answered(processor, turn.question, turn.answer, image=image)
    images = {"images": [turn.image]} if image else {}
    inputs = processor(text=text, **images, return_tensors="pt")
    num_prompt = processor(text=prompt, **images, return_tensors="pt")["input_ids"].shape[1]
    num_answer = len(processor.tokenizer(f" {turn.answer}", add_special_tokens=False)["input_ids"])
    with torch.inference_mode():
        logits = frozen.model(**inputs).logits[0]
    return logits[num_prompt - 1 : num_prompt - 1 + num_answer]


def gain(belief: AnswerEvidence) -> float:
    return float(np.mean(belief.image_logprobs) - np.mean(belief.text_logprobs))


def close(a: AnswerEvidence, b: AnswerEvidence) -> bool:
    return all(np.allclose(vars(a)[name], vars(b)[name], atol=5e-5) for name in vars(a))


def test_batches_equal_one_forward_per_turn_and_side(scorer: Measures, frozen: Frozen) -> None:
    for turn, belief in zip(ASKED, scorer.beliefs(ASKED), strict=True):
        ids = frozen.processor.tokenizer(f" {turn.answer}", add_special_tokens=False)["input_ids"]
        logits = [alone(frozen, turn, image=side) for side in (True, False)]
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
        )
        assert len(belief.image_logprobs) == len(ids)
        assert close(belief, expected)


def test_batch_mates_and_padding_do_not_change_a_score(scorer: Measures) -> None:
    together = scorer.beliefs(ASKED)
    for turn, belief in zip(ASKED[:8], together, strict=False):
        assert close(scorer.beliefs([turn])[0], belief)


def test_the_order_of_the_turns_is_kept(scorer: Measures) -> None:
    forwards, backwards = scorer.beliefs(ASKED), scorer.beliefs(ASKED[::-1])
    assert all(close(a, b) for a, b in zip(forwards, backwards[::-1], strict=True))


def test_the_answer_is_forced_whatever_the_model_would_say(scorer: Measures) -> None:
    scene = next(s for s in map(draw_scene, range(99)) if [t.shape for t in s.things] == ["circle"])
    colour = scene.things[0].colour
    right, wrong = (
        scorer.beliefs([asked(scene, "What colour is the circle?", f"The circle is {c}.")])[0]
        for c in (colour, "green" if colour != "green" else "blue")
    )
    at = 3  # The circle is >colour<
    assert right.image_logprobs[at] > np.log(0.9) and wrong.image_logprobs[at] < np.log(0.05)
    assert gain(right) > 0 > gain(wrong)


def test_the_text_side_does_not_see_the_image(scorer: Measures) -> None:
    one, other = scorer.beliefs([asked(scene, *TEXTS[1]) for scene in SCENES[:2]])
    assert np.allclose(one.text_logprobs, other.text_logprobs, atol=1e-5)
    assert not np.allclose(one.image_logprobs, other.image_logprobs, atol=1e-2)


def test_one_token_answers_have_k2_and_gain_and_no_k1(scorer: Measures) -> None:
    belief = scorer.beliefs([asked(SCENES[0], *TEXTS[0])])[0]
    found = i2c.compute_scores(belief)
    assert found["i2c"] == 0 and (found["i2c_vocab"] or 0) > 0 and found["gain"] != 0


def test_long_answers_are_scored_to_the_end(scorer: Measures) -> None:
    answer = " ".join([describe(SCENES[2])] * 5)
    belief = scorer.beliefs([asked(SCENES[2], "What does the image show?", answer)])[0]
    assert len(belief.image_logprobs) >= 100
    assert np.all(belief.image_logprobs < 0) and np.all(np.isfinite(belief.image_logprobs))


def test_an_answer_that_stands_in_its_question_too_is_the_last_one(scorer: Measures) -> None:
    belief = scorer.beliefs([asked(SCENES[0], "In a word, is it red or blue?", "red")])[0]
    assert len(belief.image_logprobs) == 1


@pytest.mark.parametrize("answer", ["s", "/", "<", ">"])
def test_an_answer_that_the_template_holds_too_is_not_its_end(frozen: Frozen, answer: str) -> None:
    text, span = chat.answered(frozen.processor, "What?", answer, image=True)
    assert text[slice(*span)] == answer and text[span[1] :] == "</s>"


@pytest.mark.parametrize("text", ["Is <image> red?", "the end</s>", ""])
def test_a_text_that_is_more_than_text_is_not_scored(frozen: Frozen, text: str) -> None:
    assert not frozen.can_score(asked(SCENES[0], "What is it?", text))
    assert frozen.can_score(asked(SCENES[0], "What is it?", "red"))


def test_a_text_longer_than_the_models_positions_is_not_scored(frozen: Frozen) -> None:
    answer = " ".join(["red"] * frozen.longest)
    assert not frozen.can_score(asked(SCENES[0], "What is it?", answer))
