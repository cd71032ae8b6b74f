"""Every family: vLLM and transformers say the same of it, and its chat is read right.

The checkpoints are tiny and random (`checkpoints.py`); their classes, files and formats are real.
"""

import asyncio
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from c3l_ray import chat
from c3l_ray.inference.model_check import check_vlm, reply_format
from c3l_ray.inference.scoring_model import Asked, Frozen
from c3l_ray.inference.packed_scorer import PackedScorer
from c3l_ray.inference.plain_scorer import PlainScorer
from tests.families.checkpoints import FAMILIES, sayable, write
from tests.families.conftest import Checkpoint
from tests.families.generation import IMAGES, NUM_TOKENS, QUESTIONS, Generated, Said, generate, noise, spanned
from tests.families.table import Row, written

TOLERANCE = 1e-4  # nats; what is found in float32 is 5e-6


@pytest.fixture(scope="session")
def generated(family: Checkpoint, frozen: Frozen, row: Row) -> Generated:
    row.generates = False
    replies = asyncio.run(generate(family.folder, frozen.processor))
    row.generates = True
    return replies


@pytest.fixture(scope="session")
def said(generated: Generated) -> list[Said]:
    """A reply to each question about each image."""
    return generated.said


def test_the_checkpoint_is_accepted_and_known(family: Checkpoint, tmp_path: Path) -> None:
    identity = check_vlm("--model.name", str(family.folder))
    assert check_vlm("--model.name", str(write(family.family, tmp_path / "again"))) == identity
    expected = "text" if family.name.startswith("LLaVA") else "json"
    assert reply_format(str(family.folder)) == expected


ODD_ANSWERS = [
    "red",
    "3 dogs and 12 cats.",
    "7",
    "Äpfel, naïve: 日本の猫 🐈",
    "first\nsecond\n\nthird",
    "a  gap, and (brackets)",
    "user",
    ".",
]


@pytest.mark.parametrize("image", [True, False], ids=["image", "text"])
@pytest.mark.parametrize("answer", ODD_ANSWERS)
def test_the_answers_tokens_are_found(frozen: Frozen, answer: str, image: bool) -> None:
    tokenizer = frozen.processor.tokenizer
    for question, history in QUESTIONS:
        prompt = chat.answer_prompt(frozen.processor, question, image=image, history=history)
        text, span = chat.answered(frozen.processor, question, answer, image=image, history=history)
        ids, start, end = chat.spanned_ids(tokenizer, text, span)
        asked = chat.token_ids(tokenizer, prompt)
        assert text[slice(*span)] == answer
        assert tokenizer.decode(ids[start:end]).strip() == answer
        # The model is scored after the very tokens that it answers after; at most the template's
        # own space comes between.
        assert ids[: len(asked)] == asked
        assert tokenizer.decode(ids[len(asked) : start]).strip() == ""


def test_markers_in_a_text_are_refused(family: Checkpoint, frozen: Frozen) -> None:
    """They would be read as more than text: another image, the end of the turn."""
    tokenizer = frozen.processor.tokenizer
    markers = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    assert len(markers) >= 5
    for marker in markers:
        turn = Asked(image=IMAGES[0], question="What is it?", answer=f"a {marker} b")
        assert not frozen.can_score(turn), marker


def test_a_chat_is_rendered_without_a_word(
    frozen: Frozen, caplog: pytest.LogCaptureFixture
) -> None:
    """A job renders thousands."""
    logger = logging.getLogger("transformers")  # it does not pass on what it is told
    logger.addHandler(caplog.handler)
    try:
        chat.answered(frozen.processor, "What is it?", "a square", image=True)
    finally:
        logger.removeHandler(caplog.handler)
    assert not caplog.messages


def test_the_image_changes_the_answers_probabilities(frozen: Frozen) -> None:
    """Otherwise the agreement below, to 1e-4 nats, would prove little."""
    turns = [Asked(image=image, question="What is it?", answer="a red square") for image in IMAGES]
    one, other = PlainScorer(frozen).beliefs(turns)
    assert np.abs(one.image_logprobs - one.text_logprobs).max() > 0.02
    assert np.abs(one.image_logprobs - other.image_logprobs).max() > 0.02
    assert np.allclose(one.text_logprobs, other.text_logprobs, atol=1e-5)


def test_generated_and_scored_are_the_same_tokens(
    family: Checkpoint, frozen: Frozen, said: list[Said]
) -> None:
    tokenizer = frozen.processor.tokenizer
    for one in said:
        assert len(one.ids) == NUM_TOKENS
        assert set(one.ids) <= set(sayable(tokenizer, spaced=family.family.spaced))
        ids, start, end = spanned(frozen.processor, one.asked, image=True)
        assert ids[start:end] == one.ids
        assert frozen.can_score(one.asked)


def test_a_reply_keeps_to_a_schema(generated: Generated) -> None:
    assert generated.json_reply.lstrip().startswith("{")


def test_plain_scoring_agrees_with_vllm(
    family: Checkpoint, frozen: Frozen, generated: Generated, row: Row
) -> None:
    row.scores = False
    said = generated.said
    beliefs = PlainScorer(frozen).beliefs([one.asked for one in said])
    images = max(
        difference(one.logprobs, belief.image_logprobs)
        for one, belief in zip(said, beliefs, strict=True)
    )
    texts = max(
        difference(one.text_logprobs, belief.text_logprobs)
        for one, belief in zip(said, beliefs, strict=True)
    )
    assert any("no later one" in warning for warning in generated.warnings) == one_way(family)
    if one_way(family):
        assert images > TOLERANCE, "vLLM's attention on the CPU goes both ways now: see one_way"
        images = max(difference(one.logprobs, _logprobs(frozen, one, one_way=True)) for one in said)
        row.note = " *"
    row.agreement = max(images, texts)
    assert row.agreement < TOLERANCE
    row.scores = True


def one_way(family: Checkpoint) -> bool:
    """Whether vLLM lets an image's tokens see only earlier ones, against the family's design.

    Its attention on the CPU knows no other way and says nothing, as of vLLM 0.32.
    """
    return family.family.both_ways and not torch.cuda.is_available()


def difference(ours: Any, theirs: Any) -> float:
    return float(np.abs(np.array(ours) - np.array(theirs)).max())


def test_vllm_says_what_transformers_finds_likeliest(
    family: Checkpoint, frozen: Frozen, said: list[Said]
) -> None:
    num_clear = 0
    for one in said:
        logits_AV = _logits(frozen, one.asked, one_way=one_way(family))
        top_A2 = logits_AV.topk(2).values
        clear_A = (top_A2[:, 0] - top_A2[:, 1]) > 10 * TOLERANCE
        assert torch.equal(logits_AV.argmax(-1)[clear_A], torch.tensor(one.ids)[clear_A])
        num_clear += int(clear_A.sum())
    assert num_clear > 0.9 * NUM_TOKENS * len(said)


@torch.inference_mode()
def _logits(frozen: Frozen, asked: Asked, *, one_way: bool) -> torch.Tensor:
    """[A, V] at the answer's places, by one forward of one row."""
    ids, start, end = spanned(frozen.processor, asked, image=True)
    inputs = frozen.processed(asked, asked.image)
    if one_way:
        del inputs["token_type_ids"]  # the model knows by them which tokens are the image's
    grown = inputs["input_ids"].shape[1] - len(ids)
    placed = {name: values.to(frozen.device) for name, values in inputs.items()}
    logits: torch.Tensor = frozen.model(**placed).logits[0, start + grown - 1 : end + grown - 1]
    return logits.cpu()


def _logprobs(frozen: Frozen, said: Said, *, one_way: bool) -> list[float]:
    logprobs_AV = _logits(frozen, said.asked, one_way=one_way).log_softmax(-1)
    logprobs: list[float] = logprobs_AV[range(len(said.ids)), said.ids].tolist()
    return logprobs


def test_packed_scoring_equals_plain(
    frozen: Frozen, row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    row.packs = False
    packed, plain = PackedScorer(frozen), PlainScorer(frozen)
    monkeypatch.delattr(packed, "plain")  # what it falls back to for an image that it cannot pack
    for without in (None, IMAGES[0]):
        turns = [
            Asked(image=image, question=question, answer=answer, history=history, without=without)
            for image in (*IMAGES, noise(33, 100))
            for question, history in QUESTIONS
            for answer in ODD_ANSWERS
        ]
        for one, other in zip(packed.beliefs(turns), plain.beliefs(turns), strict=True):
            assert all(
                np.allclose(getattr(one, n), getattr(other, n), atol=5e-5) for n in vars(one)
            )
    row.packs = True


def test_the_readme_says_so(family: Checkpoint, row: Row) -> None:
    """The last of this file: what the tests before it have shown stands in the README's table."""
    told = written()
    assert list(told) == [each.name for each in FAMILIES]
    shown = row.cells()
    # How far the two agree differs by machine; what was not tried now is left alone.
    differ = [
        f"{ours} is {theirs} in the README"
        for place, (ours, theirs) in enumerate(zip(shown, told[family.name], strict=True))
        if place != 4 and ours and ours != theirs
    ]
    assert not differ, "run `make test-families` and copy its table into the README"
