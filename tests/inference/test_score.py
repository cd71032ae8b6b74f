"""The plain scorer against a forward pass a turn, and the defects that others have had."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from c3l_ray import chat
from c3l_ray.config import GenerateConfig, Scorer
from c3l_ray.inference.score import Asked, Belief, PlainScorer, Score
from c3l_ray.methods import i2c
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import Scene, Thing, draw_scene, render
from c3l_ray.scenes.language import describe
from c3l_ray.schema import FLOW, SCORE_NAMES, conform

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
def scorer() -> PlainScorer:
    return PlainScorer(str(world.LLAVA), Scorer(dtype="float32", batch_size=7))


def alone(scorer: PlainScorer, turn: Asked, *, image: bool) -> torch.Tensor:
    """[A, V] log-probabilities at the answer's places: one row, nothing padded or skipped."""
    tokenizer = scorer.processor.tokenizer
    prompt = chat.answer_prompt(scorer.processor, turn.question, image=image)
    text, _ = chat.answered(scorer.processor, turn.question, turn.answer, image=image)
    images = {"images": [turn.image]} if image else {}
    inputs = scorer.processor(text=text, **images, return_tensors="pt")
    num_prompt = scorer.processor(text=prompt, **images, return_tensors="pt")["input_ids"].shape[1]
    num_answer = len(tokenizer(f" {turn.answer}", add_special_tokens=False)["input_ids"])
    with torch.inference_mode():
        logits = scorer.model(**inputs).logits[0]
    return logits[num_prompt - 1 : num_prompt - 1 + num_answer].log_softmax(-1)


def gain(belief: Belief) -> float:
    return float(np.mean(belief.image_logprobs) - np.mean(belief.text_logprobs))


def close(a: Belief, b: Belief) -> bool:
    return all(np.allclose(vars(a)[name], vars(b)[name], atol=2e-5) for name in vars(a))


def test_batches_equal_one_forward_per_turn_and_side(scorer: PlainScorer) -> None:
    for turn, belief in zip(ASKED, scorer.beliefs(ASKED), strict=True):
        ids = scorer.processor.tokenizer(f" {turn.answer}", add_special_tokens=False)["input_ids"]
        image, text = (alone(scorer, turn, image=side).numpy() for side in (True, False))
        places = np.arange(len(ids))
        expected = Belief(
            image_logprobs=image[places, ids],
            text_logprobs=text[places, ids],
            token_kl=(np.exp(image) * (image - text)).sum(-1),
        )
        assert len(belief.image_logprobs) == len(ids)
        assert close(belief, expected)


def test_batch_mates_and_padding_do_not_change_a_score(scorer: PlainScorer) -> None:
    together = scorer.beliefs(ASKED)
    for turn, belief in zip(ASKED[:8], together, strict=False):
        assert close(scorer.beliefs([turn])[0], belief)


def test_the_order_of_the_turns_is_kept(scorer: PlainScorer) -> None:
    forwards, backwards = scorer.beliefs(ASKED), scorer.beliefs(ASKED[::-1])
    assert all(close(a, b) for a, b in zip(forwards, backwards[::-1], strict=True))


def test_the_answer_is_forced_whatever_the_model_would_say(scorer: PlainScorer) -> None:
    thing = Thing(colour="red", shape="circle", size="large", cell="top left")
    scene = Scene(seed=0, things=(thing,))
    right, wrong = (
        scorer.beliefs([asked(scene, "In a word, how many things are there?", count)])[0]
        for count in ("one", "six")
    )
    assert right.image_logprobs[0] > np.log(0.5) and wrong.image_logprobs[0] < np.log(0.05)
    assert gain(right) > 0 > gain(wrong)


def test_the_text_side_does_not_see_the_image(scorer: PlainScorer) -> None:
    scenes = sorted(SCENES, key=lambda scene: len(scene.things))
    one, other = scorer.beliefs([asked(scene, *TEXTS[0]) for scene in (scenes[0], scenes[-1])])
    assert np.allclose(one.text_logprobs, other.text_logprobs, atol=1e-5)
    assert not np.allclose(one.image_logprobs, other.image_logprobs, atol=1e-2)


def test_one_token_answers_have_k2_and_gain_and_no_k1(scorer: PlainScorer) -> None:
    belief = scorer.beliefs([asked(SCENES[0], *TEXTS[0])])[0]
    found = i2c.scores(belief.image_logprobs, belief.text_logprobs, belief.token_kl)
    assert found is not None and found["i2c"] == 0
    assert found["i2c_vocab"] > 0 and found["gain"] != 0


def test_long_answers_are_scored_to_the_end(scorer: PlainScorer) -> None:
    answer = " ".join([describe(SCENES[2])] * 5)
    belief = scorer.beliefs([asked(SCENES[2], "What does the image show?", answer)])[0]
    assert len(belief.image_logprobs) >= 100
    assert np.all(belief.image_logprobs < 0) and np.all(np.isfinite(belief.image_logprobs))


def test_an_answer_that_stands_in_its_question_too_is_the_last_one() -> None:
    scorer = PlainScorer(str(world.LLAVA), Scorer(dtype="float32"))
    belief = scorer.beliefs([asked(SCENES[0], "In a word, is it red or blue?", "red")])[0]
    assert len(belief.image_logprobs) == 1


def row(image: bytes, turns: list[dict[str, Any]], error: str | None = None) -> dict[str, Any]:
    return {"image": image, "turns": turns, "error": error}


def turn(status: str = "ok", question: str | None = "Is there a red star?") -> dict[str, Any]:
    return {
        "kind": "yes_no",
        "instruction": "Ask.",
        "question": question,
        "answer": question and "No, there is no red star.",
        "status": status,
    }


def test_the_actor_scores_good_turns_and_leaves_the_rest(
    config: Callable[..., GenerateConfig], encoded: Callable[..., bytes]
) -> None:
    rows = [
        row(encoded(), [turn(), turn("unparsable", None), turn("duplicate")]),
        row(b"", [], "empty: the image has no bytes"),
        row(b"broken since", [turn()]),
        row(encoded(), [turn()]),
    ]
    names = ["image", "turns", "error"]
    table = conform(
        {
            **{name: [each[name] for each in rows] for name in names},
            **{name: ["x"] * 4 for name in ("image_id", "key", "source", "unit")},
            "unit_rows": [4] * 4,
        },
        FLOW,
    )
    out = Score(config())(table)
    assert out.schema.equals(FLOW)
    first, failed, broken, last = out.to_pylist()
    assert [each["scores"] is None for each in first["turns"]] == [False, True, True]
    assert set(first["turns"][0]["scores"]) == set(SCORE_NAMES)
    assert all(value is not None for value in first["turns"][0]["scores"].values())
    assert last["turns"][0]["scores"] == pytest.approx(first["turns"][0]["scores"], abs=1e-5)
    assert failed["error"].startswith("empty") and failed["turns"] == []
    assert broken["error"].startswith("undecodable")
    assert first["score_s"] > 0
