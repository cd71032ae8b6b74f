import asyncio
import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c3l_ray.inference.beams import Beam, search

LETTERS = "e. ab"  # of these the first ends a reply
END = 0
MAX_TOKENS = 4


class Model:
    """Random next-token probabilities, the same for the same tokens before."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.asked: list[tuple[int, ...]] = []

    def logprobs(self, ids: tuple[int, ...]) -> dict[int, float]:
        rng = random.Random(f"{self.seed} {ids}")
        weights = [rng.random() ** 3 + 1e-6 for _ in LETTERS]
        return {token: math.log(w / sum(weights)) for token, w in enumerate(weights)}

    async def next_logprobs(self, ids: tuple[int, ...]) -> dict[int, float]:
        self.asked.append(ids)
        return self.logprobs(ids)


def text_of(ids: object) -> str:
    assert isinstance(ids, tuple)
    return "".join(LETTERS[token] for token in ids)


def found(model: Model, beams: int, stops: tuple[str, ...] = ()) -> Beam:
    beam, num_asked = asyncio.run(
        search(
            model.next_logprobs,
            text_of,
            beams=beams,
            max_tokens=MAX_TOKENS,
            end_ids={END},
            stops=stops,
        )
    )
    assert num_asked == len(model.asked)
    total, so_far = 0.0, tuple[int, ...]()
    for token in beam.ids:
        total += model.logprobs(so_far)[token]
        so_far = (*so_far, token)
    assert beam.logprob == pytest.approx(total)
    return beam


def every_reply(model: Model, stops: tuple[str, ...]) -> dict[tuple[int, ...], float]:
    """All that can be said, with its mean ln p."""
    replies = {}
    for ids in itertools.product(range(len(LETTERS)), repeat=MAX_TOKENS):
        total = 0.0
        for length in range(1, MAX_TOKENS + 1):
            said = ids[:length]
            total += model.logprobs(said[:-1])[said[-1]]
            over = said[-1] == END or any(stop in text_of(said) for stop in stops)
            if over or length == MAX_TOKENS:
                replies[said] = total / length
                break
    return replies


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(), (". ",), ("a", ".")]))
def test_with_room_for_all_it_finds_the_best_there_is(seed: int, stops: tuple[str, ...]) -> None:
    model = Model(seed)
    beam = found(model, len(LETTERS) ** MAX_TOKENS, stops)
    replies = every_reply(model, stops)
    assert beam.score == pytest.approx(max(replies.values()))
    assert replies[beam.ids] == pytest.approx(beam.score)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_one_beam_is_greedy(seed: int) -> None:
    model = Model(seed)
    said: tuple[int, ...] = ()
    while len(said) < MAX_TOKENS and (not said or said[-1] != END):
        following = model.logprobs(said)
        said = (*said, max(following, key=lambda token: following[token]))
    assert found(model, 1).ids == said


def test_how_a_beam_ended_is_told() -> None:
    endings = {found(Model(seed), 3, (". ",)).finish for seed in range(300)}
    assert endings == {"stop", "stop_string", "length"}
    for seed in range(300):
        beam = found(Model(seed), 3, (". ",))
        assert (beam.ids[-1] == END) == (beam.finish == "stop")
        assert (". " in text_of(beam.ids)) == (beam.finish == "stop_string")


def test_no_more_is_asked_than_beams_at_each_step() -> None:
    model = Model(1)
    found(model, 3)
    for length in range(MAX_TOKENS):
        assert sum(len(ids) == length for ids in model.asked) <= 3
