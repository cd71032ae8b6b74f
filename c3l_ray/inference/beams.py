"""Beam search over any source of next-token log-probabilities.

VIGC's authors decode with it, and vLLM's asynchronous engine lacks it. vLLM's own is part of its
servers, knows no stop strings and continues to the longest reply allowed; here a beam that reaches
a stop string is finished, so that a sentence costs its own tokens and few more.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

NextLogprobs = Callable[[tuple[int, ...]], Awaitable[dict[int, float]]]


@dataclass(frozen=True, kw_only=True)
class Beam:
    """One reply, or the beginning of one.

    Attributes:
        ids: its tokens, the end of sequence included.
        logprob: the sum of their ln p.
        finish_reason: "stop" after an end of sequence, "stop_string", or "length" before either.
    """

    ids: tuple[int, ...] = ()
    logprob: float = 0.0
    finish_reason: str = "length"

    @property
    def score(self) -> float:
        """The mean ln p: a length penalty of 1, the paper's."""
        return self.logprob / max(1, len(self.ids))


async def beam_search(
    next_logprobs: NextLogprobs,
    decode: Callable[[Sequence[int]], str],
    *,
    num_beams: int,
    max_tokens: int,
    end_ids: set[int],
    stops: Sequence[str] = (),
) -> tuple[Beam, int]:
    """The best beam, and how many next tokens were asked for.

    The search ends when `num_beams` beams are finished and no running beam scores better than the
    worst of them, as it stands.

    Args:
        next_logprobs: ln p of at least the 2 * num_beams likeliest tokens after the given ones.
        decode: tokens as text.
        num_beams: kept at each step.
        max_tokens: the longest beam.
        end_ids: tokens that end a reply.
        stops: texts that end a reply.
    """
    running, finished, num_asked = [Beam()], list[Beam](), 0

    def extend(beam: Beam, token: int, logprob: float) -> Beam:
        ids = (*beam.ids, token)
        finish_reason = "length"
        if token in end_ids:
            finish_reason = "stop"
        elif stops and any(stop in decode(ids) for stop in stops):
            finish_reason = "stop_string"
        return Beam(ids=ids, logprob=beam.logprob + logprob, finish_reason=finish_reason)

    for _ in range(max_tokens):
        logprobs_of_beams = await asyncio.gather(*(next_logprobs(beam.ids) for beam in running))
        num_asked += len(running)
        steps = (
            (beam.logprob + logprob, token, logprob, beam)
            for beam, logprobs in zip(running, logprobs_of_beams, strict=True)
            for token, logprob in logprobs.items()
        )
        likeliest = heapq.nlargest(2 * num_beams, steps, key=lambda step: step[:2])
        candidates = [extend(beam, token, logprob) for _, token, logprob, beam in likeliest]
        # A beam that ends among the less likely half is no match for those that continue.
        finished += [beam for beam in candidates[:num_beams] if beam.finish_reason != "length"]
        finished = heapq.nlargest(num_beams, finished, key=lambda beam: beam.score)
        running = [beam for beam in candidates if beam.finish_reason == "length"][:num_beams]
        best = max((beam.score for beam in running), default=float("-inf"))
        if not running or (len(finished) == num_beams and finished[-1].score >= best):
            return finished[0], num_asked
    return max([*finished, *running], key=lambda beam: beam.score), num_asked
