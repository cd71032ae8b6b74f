"""Every family: vLLM and transformers agree on it, and its chat is read right.

The checkpoints are tiny and random (`checkpoints.py`); their classes, files and formats are real.
"""

import asyncio
import logging
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from c3l_ray import chat
from c3l_ray.errors import EngineFailure, PreflightError
from c3l_ray.inference.engine import Engine
from c3l_ray.inference.model_check import check_model, choose_reply_format, model_family
from c3l_ray.inference.plain_scorer import PlainScorer
from c3l_ray.inference.scorer_checks import AnswerScorer
from c3l_ray.inference.scoring_model import ScoringModel, TurnToScore
from c3l_ray.inference.turn_scorer import choose_scorer
from c3l_ray.methods import c3l
from c3l_ray.model_config import GeneratorModel, Sampling
from tests.families.checkpoints import FAMILIES, Family, stable_token_ids, write_checkpoint
from tests.families.conftest import Checkpoint
from tests.families.table import Row, check_page
from tests.families.vllm_replies import (
    IMAGES,
    NUM_TOKENS,
    QUESTIONS,
    VllmReplies,
    VllmReply,
    as_in_vllm,
    ask_vllm,
    noise_image,
    tokenize_turn,
    vllm_differs,
    vllm_is_causal,
)

TEXT_FAMILIES = ("aya", "cohere", "granite", "llava", "minicpm")
LLAVA = FAMILIES[0]  # which vLLM computes as transformers does


@pytest.fixture(scope="session")
def vllm(checkpoint: Checkpoint, model: ScoringModel, row: Row) -> VllmReplies:
    row.generates = False
    asking = ask_vllm(checkpoint.folder, model.processor, checkpoint.family)
    if checkpoint.family.vllm_fails:
        with pytest.raises(EngineFailure):
            asyncio.run(asking)
        pytest.skip("vLLM cannot compute this family on a CPU")
    replies = asyncio.run(asking)
    row.generates = True
    return replies


@pytest.fixture(scope="session")
def replies(vllm: VllmReplies) -> list[VllmReply]:
    """A reply to each question about each image."""
    return vllm.replies


def test_the_checkpoint_is_accepted_and_known(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = str(checkpoint.folder)
    identity = check_model("--model.name", folder)
    again = write_checkpoint(checkpoint.family, tmp_path / "again")
    assert check_model("--model.name", str(again)) == identity
    assert model_family(folder) == checkpoint.family.model_type
    expected = "text" if checkpoint.family.model_type.startswith(TEXT_FAMILIES) else "json"
    assert choose_reply_format(folder) == expected


ASKING = [
    "",
    *(c3l.format_instruction(c3l.INSTRUCTIONS["short"][0], name) for name in ("text", "json")),
]
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


@pytest.mark.parametrize("with_image", [True, False], ids=["image", "text"])
@pytest.mark.parametrize("answer", ODD_ANSWERS)
def test_the_places_of_the_answers_tokens_are_right(
    model: ScoringModel, answer: str, with_image: bool
) -> None:
    tokenizer = model.processor.tokenizer
    for question, history in QUESTIONS:
        prompt = chat.answer_prompt(
            model.processor, question, with_image=with_image, history=history
        )
        text, span = chat.render_turn(
            model.processor, question, answer, with_image=with_image, history=history
        )
        ids, start, end = chat.tokenize_with_span(tokenizer, text, span)
        prompt_ids = chat.tokenize(tokenizer, prompt)
        assert text[slice(*span)] == answer
        assert tokenizer.decode(ids[start:end]).strip() == answer
        # The model is scored after the very tokens that it answers after; at most the template's
        # own space comes between.
        assert ids[: len(prompt_ids)] == prompt_ids
        assert tokenizer.decode(ids[len(prompt_ids) : start]).strip() == ""


def test_texts_with_markers_are_not_scored(model: ScoringModel) -> None:
    """They would be read as more than text: another image, the end of the turn."""
    tokenizer = model.processor.tokenizer
    markers = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    assert len(markers) >= 5
    for marker in markers:
        turn = TurnToScore(image=IMAGES[0], question="What is it?", answer=f"a {marker} b")
        assert model.unscorable_status(turn) == "special_tokens", marker


def test_rendering_a_chat_logs_nothing(
    model: ScoringModel, caplog: pytest.LogCaptureFixture
) -> None:
    """A job renders thousands."""
    logger = logging.getLogger("transformers")  # it does not propagate its records
    logger.addHandler(caplog.handler)
    try:
        chat.render_turn(model.processor, "What is it?", "a square", with_image=True)
    finally:
        logger.removeHandler(caplog.handler)
    assert not caplog.messages


def test_the_image_changes_the_answers_probabilities(model: ScoringModel) -> None:
    """Otherwise the agreement below, to 1e-4 nats, would prove little."""
    left, right = plain_scorer(model).measure(
        [
            TurnToScore(image=image, question="What is it?", answer="a red square")
            for image in IMAGES
        ]
    )
    assert np.abs(left.image_logprobs - left.text_logprobs).max() > 0.02
    assert np.abs(left.image_logprobs - right.image_logprobs).max() > 0.02
    assert np.allclose(left.text_logprobs, right.text_logprobs, atol=1e-5)


def test_plain_scoring_is_the_models_own(
    checkpoint: Checkpoint, model: ScoringModel, row: Row
) -> None:
    turns = [
        TurnToScore(image=image, question=question, answer=answer, history=history)
        for image in IMAGES
        for question, history in QUESTIONS
        for answer in ODD_ANSWERS
    ]
    for turn, evidence in zip(turns, plain_scorer(model).measure(turns), strict=True):
        ids, start, end = tokenize_turn(model.processor, turn, with_image=True)
        logits_AV = own_logits(model, turn)
        logprobs_A = logits_AV.log_softmax(-1)[range(end - start), ids[start:end]]
        assert np.allclose(evidence.image_logprobs, logprobs_A, atol=1e-4)
    if checkpoint.family.vllm_fails:  # whose replies would be measured too
        row.scores = True


@pytest.mark.parametrize("reply_format", ["text", "json"])
def test_a_posed_answer_is_scored_with_its_end(model: ScoringModel, reply_format: str) -> None:
    turn = TurnToScore(
        image=IMAGES[0],
        question="What is it?",
        answer="a red square",
        instruction=ASKING[1] if reply_format == "text" else ASKING[2],
    )
    tokenized = model.tokenize_posed_turn(turn)
    *written, end = tokenized.answer_ids
    assert tokenized.answer_end == len(tokenized.ids)
    closing = "" if reply_format == "text" else '"}'
    assert model.processor.tokenizer.decode(written).strip() == f"{turn.answer}{closing}"
    assert model.processor.tokenizer.convert_ids_to_tokens(end) in model.special_tokens
    inputs = model.process_posed_turn(turn)
    with torch.inference_mode():
        logits_TV = model.vlm(**model.move_inputs(inputs)).logits[0].cpu()
    ids = inputs["input_ids"][0, -len(tokenized.answer_ids) :].tolist()
    assert ids == tokenized.answer_ids
    places = range(len(logits_TV) - len(ids) - 1, len(logits_TV) - 1)
    expected = logits_TV.log_softmax(-1)[places, ids]
    (evidence,) = plain_scorer(model).measure([turn])
    assert evidence.posed_logprobs is not None
    assert np.allclose(evidence.posed_logprobs, expected, atol=1e-4)


def test_generated_and_scored_tokens_are_the_same(
    checkpoint: Checkpoint, model: ScoringModel, replies: list[VllmReply]
) -> None:
    tokenizer = model.processor.tokenizer
    stable_ids = set(stable_token_ids(tokenizer, spaced=checkpoint.family.spaced))
    for reply in replies:
        assert len(reply.ids) == NUM_TOKENS
        assert set(reply.ids) <= stable_ids
        ids, start, end = tokenize_turn(model.processor, reply.turn, with_image=True)
        assert ids[start:end] == reply.ids
        assert model.unscorable_status(reply.turn) is None


def test_a_precision_that_vllm_does_not_compute_in_is_refused(checkpoint: Checkpoint) -> None:
    if checkpoint.family.vllm_dtype == "float32" or torch.cuda.is_available():
        pytest.skip("vLLM computes it in float32")
    model = GeneratorModel(name=str(checkpoint.folder), dtype="float32", max_len=512)
    with pytest.raises(PreflightError, match="in bfloat16 only, not in float32"):
        Engine(model, Sampling())


def test_a_reply_keeps_to_a_schema(vllm: VllmReplies) -> None:
    assert vllm.json_reply.lstrip().startswith("{")


def test_plain_scoring_agrees_with_vllm(
    checkpoint: Checkpoint, model: ScoringModel, vllm: VllmReplies, row: Row
) -> None:
    row.scores = False
    replies = vllm.replies
    evidence = plain_scorer(model).measure([reply.turn for reply in replies])
    image_difference = max(
        largest_difference(reply.logprobs, answer.image_logprobs)
        for reply, answer in zip(replies, evidence, strict=True)
    )
    text_difference = max(
        largest_difference(reply.text_logprobs, answer.text_logprobs)
        for reply, answer in zip(replies, evidence, strict=True)
    )
    family = checkpoint.family
    has_note = any("causal attention" in note for note in vllm.notes)
    assert has_note == vllm_is_causal(family)
    if vllm_differs(family):
        assert image_difference > family.tolerance, (
            "vLLM keeps to the family's design: see vllm_differs"
        )
        image_difference = max(
            largest_difference(reply.logprobs, reply_logprobs(model, reply, family))
            for reply in replies
        )
    row.agreement = max(image_difference, text_difference)
    assert row.agreement < family.tolerance, (image_difference, text_difference)
    row.scores = True


def largest_difference(left: Any, right: Any) -> float:
    return float(np.abs(np.array(left) - np.array(right)).max())


def test_vllm_says_what_transformers_holds_likeliest(
    checkpoint: Checkpoint, model: ScoringModel, replies: list[VllmReply]
) -> None:
    num_clear = 0
    for reply in replies:
        logits_AV = answer_logits(model, reply.turn, checkpoint.family)
        top_A2 = logits_AV.topk(2).values
        clear_A = (top_A2[:, 0] - top_A2[:, 1]) > 10 * checkpoint.family.tolerance
        assert torch.equal(logits_AV.argmax(-1)[clear_A], torch.tensor(reply.ids)[clear_A])
        num_clear += int(clear_A.sum())
    assert num_clear > 0.9 * NUM_TOKENS * len(replies)


def own_logits(model: ScoringModel, turn: TurnToScore) -> torch.Tensor:
    """[A, V] at the answer's places, by the model's own forward pass of one row."""
    return answer_logits(model, turn, LLAVA)


@torch.inference_mode()
def answer_logits(model: ScoringModel, turn: TurnToScore, family: Family) -> torch.Tensor:
    """[A, V] at the answer's places, by one forward pass of one row, as vLLM computes it."""
    ids, start, end = tokenize_turn(model.processor, turn, with_image=True)
    inputs = model.process_turn(turn, turn.image)
    num_added = inputs["input_ids"].shape[1] - len(ids)
    on_device = {name: values.to(model.device) for name, values in inputs.items()}
    places = slice(start + num_added - 1, end + num_added - 1)
    with as_in_vllm(model.vlm, on_device, family) as vllm_inputs:
        logits: torch.Tensor = model.vlm(**vllm_inputs).logits[0, places]
    return logits.cpu()


def reply_logprobs(model: ScoringModel, reply: VllmReply, family: Family) -> list[float]:
    logprobs_AV = answer_logits(model, reply.turn, family).log_softmax(-1)
    logprobs: list[float] = logprobs_AV[range(len(reply.ids)), reply.ids].tolist()
    return logprobs


def plain_scorer(model: ScoringModel) -> AnswerScorer:
    """The one that a job with `--no-scorer.pack` takes."""
    scorer, _ = choose_scorer(model, pack=False)
    return scorer


def test_packed_scoring_equals_plain(
    checkpoint: Checkpoint, model: ScoringModel, row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    row.packs = False
    packed, _ = choose_scorer(model, pack=True)
    if not checkpoint.family.packs:
        assert isinstance(packed, PlainScorer)
        return
    plain = plain_scorer(model)
    monkeypatch.delattr(packed, "plain_scorer")  # its fallback for an image that it cannot pack
    for baseline_image in (None, IMAGES[0]):
        turns = [
            TurnToScore(
                image=image,
                question=question,
                answer=answer,
                history=history,
                baseline_image=baseline_image,
                instruction="" if history else instruction,
            )
            for image in (*IMAGES, noise_image(33, 100))
            for question, history in QUESTIONS
            for answer, instruction in zip(ODD_ANSWERS, cycle(ASKING), strict=False)
        ]
        for turn, left, right in zip(
            turns, packed.measure(turns), plain.measure(turns), strict=True
        ):
            names = [name for name in vars(left) if turn.instruction or name != "posed_logprobs"]
            assert all(
                np.allclose(getattr(left, name), getattr(right, name), atol=5e-5) for name in names
            )
    row.packs = True


def test_the_page_has_these_results(row: Row) -> None:
    """The last of this file: the page has what the tests before it have shown."""
    check_page(row)
