"""The processes that generate and score, as Ray's actors."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa

from c3l_ray.answer_config import AnswerConfig
from c3l_ray.config import GeneratingConfig, RecordsConfig
from c3l_ray.distributed.cluster import find_log_files
from c3l_ray.distributed.ledger import Ledger
from c3l_ray.distributed.metrics import EngineMetrics
from c3l_ray.distributed.unit_steps import GENERATING, SCORING, Steps, Surroundings, UnitSteps
from c3l_ray.errors import C3LError, EngineFailure, ScorerFailure
from c3l_ray.stall_watch import StallWatch, bounded_boot

UNITS_PER_GENERATOR = 4  # at once: while one drains, the others keep its engine full
GENERATOR_RESTARTED = (
    "a generating process died and was started again; the log files of Ray's workers say why"
)
SCORER_RESTARTED = (
    "a scoring process failed and was started again; the log files of Ray's workers say why"
)

MAX_HUNG_BOOTS = 3
"""Processes in a row that do not load their model in time, before the job ends."""

log = logging.getLogger(__name__)


class GeneratorProcess:
    """A generating actor in a process that ends when its engine does.

    The process that Ray starts in its place notes it, in the first unit that it generates.
    """

    def __init__(
        self, generator: type | None, config: GeneratingConfig, surroundings: Surroundings
    ) -> None:
        from c3l_ray.inference.answer_generator import AnswerGenerator
        from c3l_ray.inference.turn_generator import TurnGenerator

        of_job = AnswerGenerator if isinstance(config, AnswerConfig) else TurnGenerator
        self.steps = UnitSteps(GENERATING, surroundings, starts=True, restarted=GENERATOR_RESTARTED)
        with booting(self.steps.ledger, GENERATING, config.boot_timeout):
            self.generator = (generator or of_job)(config)
        self.watch = StallWatch(GENERATING, config.stall_timeout)
        engine = getattr(self.generator, "engine", None)  # which a double of the generator lacks
        if engine is not None:
            EngineMetrics(surroundings.folder.path, engine.load)
        self._places = asyncio.Semaphore(UNITS_PER_GENERATOR)
        self._waits_for_all = asyncio.Lock()

    async def __call__(self, table: pa.Table) -> pa.Table:
        if not self.steps.is_suspect(table):
            async with self._places:
                return await self._generate(table)
        async with self._waits_for_all:
            for _ in range(UNITS_PER_GENERATOR):
                await self._places.acquire()
            try:
                return await self._generate(table)
            finally:
                for _ in range(UNITS_PER_GENERATOR):
                    self._places.release()

    async def _generate(self, table: pa.Table) -> pa.Table:
        steps = self.steps.of_unit(table)
        advance: Callable[[], pa.Table] = lambda: next(steps)  # noqa: E731
        while True:
            try:
                part = advance()
            except StopIteration as end:
                return end.value
            try:
                with self.watch.working():
                    result = await self.generator(part)
            except EngineFailure as error:
                log.error("the engine died, and its process ends: %s", error)
                os._exit(1)
            except Exception as error:
                advance = _throwing(steps, error)
            else:
                advance = _sending(steps, result)


class ScorerProcess:
    """A scoring actor in a process that ends when its model fails on everything.

    The process that Ray starts in its place notes it. Where that one fails on its first unit too,
    the job ends with the reason.
    """

    def __init__(
        self,
        scorer: type | None,
        config: RecordsConfig,
        surroundings: Surroundings,
        generates: bool,
    ) -> None:
        from c3l_ray.inference.turn_scorer import TurnScorer

        self.steps = UnitSteps(
            SCORING, surroundings, starts=not generates, restarted=SCORER_RESTARTED
        )
        with booting(self.steps.ledger, SCORING, config.boot_timeout):
            self.scorer = (scorer or TurnScorer)(config)
        self.watch = StallWatch(SCORING, config.stall_timeout)

    def __call__(self, table: pa.Table) -> pa.Table:
        steps = self.steps.of_unit(table)
        advance: Callable[[], pa.Table] = lambda: next(steps)  # noqa: E731
        while True:
            try:
                part = advance()
            except StopIteration as end:
                return end.value
            try:
                with self.watch.working():
                    result = self.scorer(part)
            except ScorerFailure as error:
                if self.steps.is_unproven:
                    raise
                log.error("the scorer failed, and its process ends: %s", error)
                os._exit(1)
            except Exception as error:
                advance = _throwing(steps, error)
            else:
                advance = _sending(steps, result)


@contextmanager
def booting(ledger: Ledger, stage: str, timeout_s: float) -> Iterator[None]:
    """Loads a model within so many seconds, or ends this process; 0 seconds are no bound.

    Raises:
        C3LError: too many processes of the stage in a row have not come up.
    """
    num_hung = ledger.count_hung_boots()
    if num_hung >= MAX_HUNG_BOOTS:
        raise C3LError(
            f"{num_hung} {stage} processes in a row did not load their model within "
            f"{timeout_s:g} s (--boot-timeout); {find_log_files()} say where they stood"
        )

    def end() -> None:
        ledger.note_hung_boot()
        os._exit(1)

    with bounded_boot(stage, timeout_s, end):
        yield
    ledger.forget_hung_boots()


def _throwing(steps: Steps, error: Exception) -> Callable[[], pa.Table]:
    return lambda: steps.throw(error)


def _sending(steps: Steps, result: pa.Table) -> Callable[[], pa.Table]:
    return lambda: steps.send(result)
