"""Beam search, which vLLM's asynchronous engine lacks, over whatever gives next-token logprobs.

VIGC's authors decode with it. vLLM's own is part of its servers, knows no stop strings and goes on
to the longest reply allowed; here a beam that reaches a stop string is finished, so that a sentence
costs its own tokens and few more.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

NextLogprobs = Callable[[tuple[int, ...]], Awaitable[dict[int, float]]]


@dataclass(frozen=True, kw_only=True)
class Beam:
    """One way to go on.

    Attributes:
        ids: its tokens, the end of sequence included.
        logprob: the sum of their ln p.
        finish: "stop" after an end of sequence, "stop_string", or "length" while it is neither.
    """

    ids: tuple[int, ...] = ()
    logprob: float = 0.0
    finish: str = "length"

    @property
    def score(self) -> float:
        """The mean ln p: a length penalty of 1, the paper's."""
        return self.logprob / max(1, len(self.ids))


async def search(
    next_logprobs: NextLogprobs,
    text_of: Callable[[Sequence[int]], str],
    *,
    beams: int,
    max_tokens: int,
    end_ids: set[int],
    stops: Sequence[str] = (),
) -> tuple[Beam, int]:
    """The best beam found, and how many next tokens were asked for.

    It ends when so many beams are finished and none that is running scores better than the worst of
    them, as it stands.

    Args:
        next_logprobs: ln p of at least the 2 * beams likeliest tokens after these.
        text_of: what tokens say.
        beams: kept at each step.
        max_tokens: the longest beam.
        end_ids: tokens that end a reply.
        stops: texts that do.
    """
    running, finished, num_asked = [Beam()], list[Beam](), 0

    def grown(beam: Beam, token: int, logprob: float) -> Beam:
        ids = (*beam.ids, token)
        finish = "length"
        if token in end_ids:
            finish = "stop"
        elif stops and any(stop in text_of(ids) for stop in stops):
            finish = "stop_string"
        return Beam(ids=ids, logprob=beam.logprob + logprob, finish=finish)

    for _ in range(max_tokens):
        following = await asyncio.gather(*(next_logprobs(beam.ids) for beam in running))
        num_asked += len(running)
        steps = (
            (beam.logprob + logprob, token, logprob, beam)
            for beam, tokens in zip(running, following, strict=True)
            for token, logprob in tokens.items()
        )
        likeliest = heapq.nlargest(2 * beams, steps, key=lambda step: step[:2])
        candidates = [grown(beam, token, logprob) for _, token, logprob, beam in likeliest]
        # One that ends among the less likely half is no match for those that go on.
        finished += [beam for beam in candidates[:beams] if beam.finish != "length"]
        finished = heapq.nlargest(beams, finished, key=lambda beam: beam.score)
        running = [beam for beam in candidates if beam.finish == "length"][:beams]
        best = max((beam.score for beam in running), default=float("-inf"))
        if not running or (len(finished) == beams and finished[-1].score >= best):
            return finished[0], num_asked
    return max([*finished, *running], key=lambda beam: beam.score), num_asked
