import asyncio
import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c3l_ray.inference.beams import Beam, beam_search

LETTERS = "e. ab"  # the first of them ends a reply
END = 0
MAX_TOKENS = 4


class RandomModel:
    """Random next-token probabilities, the same after the same tokens."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.prefixes: list[tuple[int, ...]] = []

    def logprobs(self, ids: tuple[int, ...]) -> dict[int, float]:
        rng = random.Random(f"{self.seed} {ids}")
        weights = [rng.random() ** 3 + 1e-6 for _ in LETTERS]
        return {token: math.log(w / sum(weights)) for token, w in enumerate(weights)}

    async def next_logprobs(self, ids: tuple[int, ...]) -> dict[int, float]:
        self.prefixes.append(ids)
        return self.logprobs(ids)


def decode(ids: object) -> str:
    assert isinstance(ids, tuple)
    return "".join(LETTERS[token] for token in ids)


def search(model: RandomModel, num_beams: int, stops: tuple[str, ...] = ()) -> Beam:
    beam, num_asked = asyncio.run(
        beam_search(
            model.next_logprobs,
            decode,
            num_beams=num_beams,
            max_tokens=MAX_TOKENS,
            end_ids={END},
            stops=stops,
        )
    )
    assert num_asked == len(model.prefixes)
    total, prefix = 0.0, tuple[int, ...]()
    for token in beam.ids:
        total += model.logprobs(prefix)[token]
        prefix = (*prefix, token)
    assert beam.logprob == pytest.approx(total)
    return beam


def every_reply(model: RandomModel, stops: tuple[str, ...]) -> dict[tuple[int, ...], float]:
    """Every possible reply with its mean ln p."""
    replies = {}
    for ids in itertools.product(range(len(LETTERS)), repeat=MAX_TOKENS):
        total = 0.0
        for length in range(1, MAX_TOKENS + 1):
            reply = ids[:length]
            total += model.logprobs(reply[:-1])[reply[-1]]
            has_ended = reply[-1] == END or any(stop in decode(reply) for stop in stops)
            if has_ended or length == MAX_TOKENS:
                replies[reply] = total / length
                break
    return replies


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(), (". ",), ("a", ".")]))
def test_enough_beams_find_the_best_reply(seed: int, stops: tuple[str, ...]) -> None:
    model = RandomModel(seed)
    beam = search(model, len(LETTERS) ** MAX_TOKENS, stops)
    replies = every_reply(model, stops)
    assert beam.score == pytest.approx(max(replies.values()))
    assert replies[beam.ids] == pytest.approx(beam.score)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_one_beam_is_greedy(seed: int) -> None:
    model = RandomModel(seed)
    greedy: tuple[int, ...] = ()
    while len(greedy) < MAX_TOKENS and (not greedy or greedy[-1] != END):
        logprobs = model.logprobs(greedy)
        greedy = (*greedy, max(logprobs, key=lambda token: logprobs[token]))
    assert search(model, 1).ids == greedy


def test_a_beam_says_how_it_ended() -> None:
    reasons = {search(RandomModel(seed), 3, (". ",)).finish_reason for seed in range(300)}
    assert reasons == {"stop", "stop_string", "length"}
    for seed in range(300):
        beam = search(RandomModel(seed), 3, (". ",))
        assert (beam.ids[-1] == END) == (beam.finish_reason == "stop")
        assert (". " in decode(beam.ids)) == (beam.finish_reason == "stop_string")


def test_each_step_asks_once_for_each_beam_at_most() -> None:
    model = RandomModel(1)
    search(model, 3)
    for length in range(MAX_TOKENS):
        assert sum(len(prefix) == length for prefix in model.prefixes) <= 3
