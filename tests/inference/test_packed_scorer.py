"""Packed against plain, over whatever turns come: the same numbers, at any budget."""

import random
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoModelForImageTextToText

from c3l_ray import chat
from c3l_ray.images import make_baseline_image
from c3l_ray.inference.model_inputs import ModelInputs
from c3l_ray.inference.packed_scorer import PackedScorer
from c3l_ray.inference.packing import PackingError
from c3l_ray.inference.plain_scorer import PlainScorer
from c3l_ray.inference.scoring_model import ScoringModel, TurnToScore
from c3l_ray.methods import c3l
from c3l_ray.methods.i2c import AnswerEvidence
from c3l_ray.model_config import ScorerModel
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.render import render_scene

IMAGES = [render_scene(draw_scene(seed)).resize((40 + 30 * seed, 64)) for seed in range(4)]
WORDS = [
    "the",
    "circle",
    "is",
    "red",
    "blue",
    "at",
    "top",
    "left",
    ".",
    "there",
    "no",
    "star",
    "two",
    "what",
    "where",
    "and",
    "large",
]

Baseline = Literal["grey", "blur", "mismatched"] | None
Texts = tuple[str, str, chat.History]  # question, answer, history
INSTRUCTIONS = {
    name: c3l.format_instruction(c3l.INSTRUCTIONS["short"][0], name) for name in ("text", "json")
}
DrawnTurn = tuple[Image.Image, Texts, Baseline, str | None]


@pytest.fixture(scope="module")
def exact() -> ScoringModel:
    return ScoringModel(ScorerModel(dtype="float32"), str(world.LLAVA))


@pytest.fixture(scope="module")
def halved() -> ScoringModel:
    return ScoringModel(ScorerModel(dtype="bfloat16"), str(world.LLAVA))


@pytest.fixture(scope="module")
def smooth() -> ScoringModel:
    """The same architecture in bfloat16 before any training, whose probabilities are not sharp."""
    model = ScoringModel(ScorerModel(dtype="bfloat16"), str(world.LLAVA))
    torch.manual_seed(0)
    fresh = AutoModelForImageTextToText.from_config(model.vlm.config, dtype=torch.bfloat16)
    model.vlm = fresh.eval()
    model.head = fresh.get_output_embeddings()
    return model


def texts(max_words: int) -> st.SearchStrategy[str]:
    words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=max_words)
    return words.map(" ".join)


HISTORY = st.lists(st.tuples(texts(4), texts(4)), max_size=2).map(tuple)
ANSWERS = st.lists(st.one_of(st.just("red"), texts(40)), min_size=1, max_size=3)
BASELINES = st.sampled_from([None, None, "grey", "blur", "mismatched"])
ASKED_BY = st.sampled_from([None, "text", "json"])
QUESTIONS = st.tuples(st.sampled_from(IMAGES), texts(6), HISTORY, BASELINES, ASKED_BY, ANSWERS)


def list_turns(questions: list[Any]) -> list[DrawnTurn]:
    """A turn for each answer to each of the questions."""
    return [
        (image, (question, answer, history), baseline, asked_by)
        for image, question, history, baseline, asked_by, answers in questions
        for answer in answers
    ]


TURNS = st.lists(QUESTIONS, min_size=1, max_size=6).map(list_turns)
BUDGETS = st.sampled_from([1, 100, 400, 8192])
# One object for an image and baseline, since turns are grouped by the identity of theirs.
BASELINE_IMAGES = {
    **{(id(image), "grey"): make_baseline_image(image, "grey") for image in IMAGES},
    **{(id(image), "blur"): make_baseline_image(image, "blur") for image in IMAGES},
}


def make_turn(
    image: Image.Image, texts: Texts, baseline: Baseline = None, asked_by: str | None = None
) -> TurnToScore:
    question, answer, history = texts
    baseline_image: Image.Image | None
    if baseline == "mismatched":
        baseline_image = next(candidate for candidate in IMAGES if candidate is not image)
    else:
        baseline_image = BASELINE_IMAGES[id(image), baseline] if baseline else None
    return TurnToScore(
        image=image,
        question=question,
        answer=answer,
        history=history,
        baseline_image=baseline_image,
        instruction=INSTRUCTIONS[asked_by] if asked_by else "",
    )


def largest_difference(packed: Sequence[AnswerEvidence], plain: Sequence[AnswerEvidence]) -> float:
    pairs = list(zip(packed, plain, strict=True))
    for left, right in pairs:
        assert (left.posed_logprobs is None) == (right.posed_logprobs is None)
    return max(
        float(np.abs(getattr(left, name) - getattr(right, name)).max())
        for left, right in pairs
        for name in ("image_logprobs", "text_logprobs", "posed_logprobs")
        if getattr(left, name) is not None
    )


def measure_both(
    model: ScoringModel, drawn_turns: Sequence[DrawnTurn], budget: int
) -> tuple[list[AnswerEvidence], list[AnswerEvidence]]:
    """The packed scorer's evidence at this token budget, and the plain one's."""
    turns = [make_turn(*drawn) for drawn in drawn_turns]
    plain = PlainScorer(model).measure(turns)
    model.max_tokens, usual = budget, model.max_tokens
    try:
        return PackedScorer(model).measure(turns), plain
    finally:
        model.max_tokens = usual


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(turns=TURNS, budget=BUDGETS)
def test_packed_equals_plain(exact: ScoringModel, turns: list[DrawnTurn], budget: int) -> None:
    assert largest_difference(*measure_both(exact, turns, budget)) < 1e-4


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(turns=TURNS, budget=BUDGETS)
def test_packed_equals_plain_in_half_precision(
    smooth: ScoringModel, turns: list[DrawnTurn], budget: int
) -> None:
    assert largest_difference(*measure_both(smooth, turns, budget)) < 2e-2


def test_where_half_precision_errs_packed_errs_no_more_than_plain(
    exact: ScoringModel, halved: ScoringModel
) -> None:
    """A sharp model's bfloat16 is up to 0.4 nats off, by how its sums happen to be ordered."""
    rng = random.Random(0)
    turns: list[DrawnTurn] = [
        (image, ("what ?", " ".join(rng.choices(WORDS, k=30)), ()), None, None)
        for image in IMAGES * 8
    ]
    truth, packed, plain = (
        np.concatenate([answer.image_logprobs for answer in evidence])
        for evidence in (measure_both(exact, turns, 8192)[1], *measure_both(halved, turns, 8192))
    )
    assert np.median(np.abs(packed - plain)) < 2e-2
    errors = [np.sqrt(np.mean((side - truth) ** 2)) for side in (packed, plain)]
    assert errors[0] < 1.2 * errors[1]


@settings(max_examples=15, deadline=None)
@given(drawn_turns=TURNS, padding_side=st.sampled_from(["left", "right"]))
def test_packed_equals_the_models_own_logits_of_padded_batches(
    exact: ScoringModel, drawn_turns: list[DrawnTurn], padding_side: str
) -> None:
    turns = [make_turn(image, texts) for image, texts, *_ in drawn_turns]
    rendered = [
        chat.render_turn(
            exact.processor, turn.question, turn.answer, with_image=True, history=turn.history
        )
        for turn in turns
    ]
    inputs = exact.processor(
        text=[text for text, _ in rendered],
        images=[[turn.image] for turn in turns],
        padding=True,
        padding_side=padding_side,
        return_tensors="pt",
    )
    positions = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode():
        logits = exact.vlm(**inputs, position_ids=positions).logits.log_softmax(-1)
    for row, (turn, evidence) in enumerate(
        zip(turns, PackedScorer(exact).measure(turns), strict=True)
    ):
        tokenized = exact.tokenize_turn(turn, with_image=True)
        num_after = len(tokenized.ids) - tokenized.answer_end
        last = int(inputs["attention_mask"][row].nonzero().max()) + 1 - num_after
        places = torch.arange(last - len(tokenized.answer_ids), last)
        ids = inputs["input_ids"][row, places]
        expected = logits[row, places - 1, ids].numpy()
        assert np.abs(evidence.image_logprobs - expected).max() < 1e-4


def record_inputs(model: ScoringModel, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The token ids [B, L] of every forward pass that the model makes from now on."""
    passes: list[torch.Tensor] = []
    hidden_states = model.hidden_states

    def recording(inputs: ModelInputs) -> torch.Tensor:
        passes.append(inputs["input_ids"])
        return hidden_states(inputs)

    monkeypatch.setattr(model, "hidden_states", recording)
    return passes


def test_turns_that_fit_the_budget_take_one_forward_pass_for_all_sides(
    exact: ScoringModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = record_inputs(exact, monkeypatch)
    turns = [make_turn(IMAGES[0], (f"{word} ?", "red", ()), asked_by="text") for word in WORDS[:5]]
    PackedScorer(exact).measure(turns)
    assert len(passes) == 1 and passes[0].shape[0] == 1


def test_answers_to_a_question_share_its_tokens_and_those_of_its_instruction(
    exact: ScoringModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer more costs its own tokens on each of the sides, and the posed side's end."""
    passes = record_inputs(exact, monkeypatch)
    answers = ["red", "blue", "two", "large"]
    turns = [make_turn(IMAGES[0], ("what ?", word, ()), asked_by="text") for word in answers]
    PackedScorer(exact).measure(turns[:1])
    PackedScorer(exact).measure(turns)
    lengths = [ids.shape[1] for ids in passes]
    template_end = 1  # </s>, that also ends the bare turns
    assert lengths[1] - lengths[0] == 3 * 3 * (1 + template_end)


def test_no_forward_pass_is_larger_than_the_budget_unless_one_turn_is(
    exact: ScoringModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = record_inputs(exact, monkeypatch)
    monkeypatch.setattr(exact, "max_tokens", 300)
    long_texts: Texts = ("what ?", "the circle is red " * 6, ())
    turns = [make_turn(image, long_texts) for image in IMAGES for _ in range(8)]
    turns += [make_turn(IMAGES[0], (f"{word} ?", "two " * 20, ())) for word in WORDS]
    PackedScorer(exact).measure(turns)
    assert len(passes) > 1 and max(ids.numel() for ids in passes) <= 300


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"layer_types": ["linear_attention", "full_attention"]}, "linear_attention"),
        ({"sliding_window": 8}, "sliding window"),
    ],
)
def test_attention_that_packs_do_not_follow_is_refused(
    exact: ScoringModel, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], reason: str
) -> None:
    for name, value in change.items():
        monkeypatch.setattr(exact.vlm.config.text_config, name, value, raising=False)
    with pytest.raises(PackingError, match=reason):
        PackedScorer(exact)


def test_an_image_that_does_not_fit_a_pack_is_scored_plainly(
    exact: ScoringModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PackingError("its turns begin with different tokens")

    turns = [make_turn(image, ("what ?", "red", ())) for image in IMAGES]
    expected = PlainScorer(exact).measure(turns)
    monkeypatch.setattr("c3l_ray.inference.packed_scorer.read_image_prefix", refuse)
    assert largest_difference(PackedScorer(exact).measure(turns), expected) < 1e-4
