"""Packed against plain, over whatever turns come: the same numbers, at any budget."""

import itertools
import random

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoModelForImageTextToText

from c3l_ray import chat
from c3l_ray.config import Scorer
from c3l_ray.images import stand_in
from c3l_ray.inference.scoring_model import Asked, Frozen
from c3l_ray.inference.packed_scorer import PackedScorer, PackingError
from c3l_ray.inference.plain_scorer import PlainScorer
from c3l_ray.inference.turn_scorer import scorer
from c3l_ray.methods.i2c import AnswerEvidence
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene, render

IMAGES = [render(draw_scene(seed)).resize((40 + 30 * seed, 64)) for seed in range(4)]
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


@pytest.fixture(scope="module")
def exact() -> Frozen:
    return Frozen(Scorer(dtype="float32"), str(world.LLAVA))


@pytest.fixture(scope="module")
def halved() -> Frozen:
    return Frozen(Scorer(dtype="bfloat16"), str(world.LLAVA))


@pytest.fixture(scope="module")
def smooth() -> Frozen:
    """The same architecture in bfloat16 before any training, whose beliefs are not sharp."""
    frozen = Frozen(Scorer(dtype="bfloat16"), str(world.LLAVA))
    torch.manual_seed(0)
    fresh = AutoModelForImageTextToText.from_config(frozen.model.config, dtype=torch.bfloat16)
    frozen.model = fresh.eval()
    frozen.head = fresh.get_output_embeddings()
    return frozen


def texts(longest: int) -> st.SearchStrategy[str]:
    words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=longest)
    return words.map(" ".join)


HISTORY = st.lists(st.tuples(texts(4), texts(4)), max_size=2).map(tuple)
TURN = st.tuples(texts(6), st.one_of(st.just("red"), texts(40)), HISTORY)
WITHOUT = st.sampled_from([None, None, "grey", "blur", "mismatched"])
TURNS = st.lists(st.tuples(st.sampled_from(IMAGES), TURN, WITHOUT), min_size=1, max_size=16)


def asked(image: Image.Image, turn: tuple, without: str | None = None) -> Asked:
    question, answer, history = turn
    if without == "mismatched":
        other = next(each for each in IMAGES if each is not image)
    else:
        other = STAND_INS[id(image), without] if without else None
    return Asked(image=image, question=question, answer=answer, history=history, without=other)


STAND_INS = {
    (id(image), how): stand_in(image, how)
    for image, how in itertools.product(IMAGES, ("grey", "blur"))
}


def furthest(packed: list, plain: list) -> float:
    return max(
        float(np.abs(getattr(one, name) - getattr(other, name)).max())
        for one, other in zip(packed, plain, strict=True)
        for name in ("image_logprobs", "text_logprobs")
    )


CASES = {"turns": TURNS, "budget": st.sampled_from([1, 100, 400, 8192])}


def both(frozen: Frozen, turns: list, budget: int) -> tuple[list[AnswerEvidence], list[AnswerEvidence]]:
    """The packed scorer's beliefs at this budget, and the plain one's."""
    all_asked = [asked(*turn) for turn in turns]
    plain = PlainScorer(frozen).beliefs(all_asked)
    frozen.max_tokens, usual = budget, frozen.max_tokens
    try:
        return PackedScorer(frozen).beliefs(all_asked), plain
    finally:
        frozen.max_tokens = usual


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(**CASES)
def test_packed_equals_plain(exact: Frozen, turns: list, budget: int) -> None:
    assert furthest(*both(exact, turns, budget)) < 1e-4


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(**CASES)
def test_packed_equals_plain_in_half_precision(smooth: Frozen, turns: list, budget: int) -> None:
    assert furthest(*both(smooth, turns, budget)) < 2e-2


def test_where_half_precision_errs_packed_errs_no_more_than_plain(
    exact: Frozen, halved: Frozen
) -> None:
    """A sharp model's bfloat16 is up to 0.4 nats off, by how its sums happen to be ordered."""
    rng = random.Random(0)
    turns = [
        (image, ("what ?", " ".join(rng.choices(WORDS, k=30)), ()), None) for image in IMAGES * 8
    ]
    truth, packed, plain = (
        np.concatenate([belief.image_logprobs for belief in beliefs])
        for beliefs in (both(exact, turns, 8192)[1], *both(halved, turns, 8192))
    )
    assert np.median(np.abs(packed - plain)) < 2e-2
    errors = [np.sqrt(np.mean((side - truth) ** 2)) for side in (packed, plain)]
    assert errors[0] < 1.2 * errors[1]


@settings(max_examples=15, deadline=None)
@given(turns=TURNS, side=st.sampled_from(["left", "right"]))
def test_packed_equals_the_models_own_logits_of_padded_batches(
    exact: Frozen, turns: list, side: str
) -> None:
    all_asked = [asked(image, turn) for image, turn, _ in turns]
    rendered = [
        chat.answered(exact.processor, each.question, each.answer, image=True, history=each.history)
        for each in all_asked
    ]
    inputs = exact.processor(
        text=[text for text, _ in rendered],
        images=[[each.image] for each in all_asked],
        padding=True,
        padding_side=side,
        return_tensors="pt",
    )
    positions = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode():
        logits = exact.model(**inputs, position_ids=positions).logits.log_softmax(-1)
    for row, (turn, belief) in enumerate(
        zip(all_asked, PackedScorer(exact).beliefs(all_asked), strict=True)
    ):
        whole = exact.rendered(turn, image=True)
        num_after = len(whole.ids) - whole.end
        last = int(inputs["attention_mask"][row].nonzero().max()) + 1 - num_after
        places = torch.arange(last - (whole.end - whole.start), last)
        ids = inputs["input_ids"][row, places]
        expected = logits[row, places - 1, ids].numpy()
        assert np.abs(belief.image_logprobs - expected).max() < 1e-4


def test_what_fits_the_budget_is_one_forward_for_both_sides(
    exact: Frozen, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []
    hidden = exact.hidden
    monkeypatch.setattr(
        exact, "hidden", lambda inputs: shapes.append(inputs["input_ids"].shape) or hidden(inputs)
    )
    all_asked = [asked(IMAGES[0], (f"{word} ?", "red", ())) for word in WORDS[:5]]
    PackedScorer(exact).beliefs(all_asked)
    assert len(shapes) == 1 and shapes[0][0] == 1


def test_no_forward_is_larger_than_the_budget_unless_one_turn_is(
    exact: Frozen, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    hidden = exact.hidden
    monkeypatch.setattr(exact, "max_tokens", 300)
    monkeypatch.setattr(
        exact, "hidden", lambda inputs: sizes.append(inputs["input_ids"].numel()) or hidden(inputs)
    )
    turn = ("what ?", "the circle is red " * 6, ())
    all_asked = [asked(image, turn) for image in IMAGES for _ in range(8)]
    all_asked += [asked(IMAGES[0], (f"{word} ?", "two " * 20, ())) for word in WORDS]
    PackedScorer(exact).beliefs(all_asked)
    assert len(sizes) > 1 and max(sizes) <= 300


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"layer_types": ["linear_attention", "full_attention"]}, "linear_attention"),
        ({"sliding_window": 8}, "sliding window"),
    ],
)
def test_attention_that_packs_do_not_follow_is_scored_plainly(
    exact: Frozen,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: dict,
    why: str,
) -> None:
    for name, value in change.items():
        monkeypatch.setattr(exact.model.config.text_config, name, value, raising=False)
    with pytest.raises(PackingError, match=why):
        PackedScorer(exact)
    assert isinstance(scorer(exact, pack=True), PlainScorer)
    assert why in capsys.readouterr().out


def test_a_pack_that_gives_other_numbers_is_found_out(
    exact: Frozen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(scorer(exact, pack=True), PackedScorer)
    causal = lambda self, mask, *_: torch.ones_like(mask).tril().unsqueeze(1)  # noqa: E731
    monkeypatch.setattr(PackedScorer, "_masks", causal)
    assert isinstance(scorer(exact, pack=True), PlainScorer)
    assert "its numbers would differ" in capsys.readouterr().out
