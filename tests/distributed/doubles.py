"""Generators and a scorer without models, as the pipeline's actors."""

import asyncio
import os
import random
import signal
from pathlib import Path

import pyarrow as pa

from c3l_ray.config import GenerateConfig, RecordsConfig
from c3l_ray.errors import C3LError, EngineFailure, ScorerFailure
from c3l_ray.schema import replace_columns
from tests.examples import RECORD


class Pretend:
    """Fills turns slowly enough that several units are in flight at once."""

    def __init__(self, _: GenerateConfig) -> None:
        self.random = random.Random()

    async def __call__(self, table: pa.Table) -> pa.Table:
        await asyncio.sleep(self.random.random() / 5)
        return replace_columns(table, turns=[RECORD["turns"]] * table.num_rows)


class TakesASecond(Pretend):
    """Fills turns so slowly that a job can be stopped before the last unit is begun."""

    async def __call__(self, table: pa.Table) -> pa.Table:
        await asyncio.sleep(1)
        return await super().__call__(table)


class RefusesUntilMended:
    """Refuses the images whose keys end with 1, until a file says that they are mended."""

    def __init__(self, config: GenerateConfig) -> None:
        self.mark = Path(config.output) / "mended"

    async def __call__(self, table: pa.Table) -> pa.Table:
        errors = [
            "refused: too many tokens" if key.endswith("1") and not self.mark.exists() else None
            for key in table["key"].to_pylist()
        ]
        return replace_columns(table, error=errors, turns=[RECORD["turns"]] * table.num_rows)


class DiesOnce:
    """An engine that dies the first time it sees the unit that holds a key."""

    def __init__(self, config: GenerateConfig) -> None:
        self.mark = Path(config.output) / "died"

    async def __call__(self, table: pa.Table) -> pa.Table:
        if "3-00" in table["key"].to_pylist() and not self.mark.exists():
            self.mark.touch()
            raise EngineFailure("its process was killed")
        return replace_columns(table, turns=[RECORD["turns"]] * table.num_rows)


class DiesAlways:
    def __init__(self, _: GenerateConfig) -> None:
        pass

    async def __call__(self, table: pa.Table) -> pa.Table:
        raise EngineFailure("the unit kills it every time")


def keys_of_good_rows(table: pa.Table) -> list[str]:
    """The keys of rows that no earlier stage or attempt has failed."""
    rows = table.select(["key", "error"]).to_pylist()
    return [row["key"] for row in rows if row["error"] is None]


class IsKilled:
    """A generator whose process one image kills, as by a decoder's fault; at another it hangs."""

    POISON = ("1-03", "1-05")

    def __init__(self, _: GenerateConfig) -> None:
        pass

    async def __call__(self, table: pa.Table) -> pa.Table:
        await asyncio.sleep(0.05)
        kills, hangs = self.POISON
        keys = keys_of_good_rows(table)
        if kills in keys:
            os.kill(os.getpid(), signal.SIGKILL)
        if hangs in keys:
            await asyncio.sleep(3600)
        return replace_columns(table, turns=[RECORD["turns"]] * table.num_rows)


class IsKilledWhileScoring:
    """A scorer whose process one image kills."""

    POISON = "1-07"

    def __init__(self, _: RecordsConfig) -> None:
        pass

    def __call__(self, table: pa.Table) -> pa.Table:
        if self.POISON in keys_of_good_rows(table):
            os.kill(os.getpid(), signal.SIGKILL)
        return table


class Stumbles:
    """A scorer that raises at one image."""

    def __init__(self, _: RecordsConfig) -> None:
        pass

    def __call__(self, table: pa.Table) -> pa.Table:
        if "2-01" in keys_of_good_rows(table):
            raise ValueError("no model reads this\nTo change that, write another")
        return table


class FailsOnce:
    """A scorer whose GPU fails at the first unit that any process of it gets."""

    def __init__(self, config: RecordsConfig) -> None:
        self.mark = Path(config.output) / "failed"

    def __call__(self, table: pa.Table) -> pa.Table:
        if not self.mark.exists():
            self.mark.touch()
            raise ScorerFailure("CUDA error: device-side assert triggered")
        return table


class FailsAlways:
    def __init__(self, _: RecordsConfig) -> None:
        pass

    def __call__(self, table: pa.Table) -> pa.Table:
        raise ScorerFailure("CUDA error: no kernel image is available")


class GivesUp:
    """A scorer that ends the job."""

    def __init__(self, _: RecordsConfig) -> None:
        pass

    def __call__(self, table: pa.Table) -> pa.Table:
        raise C3LError("no model reads this\nTo change that, write another")


class PassOn:
    """A scorer that scores nothing."""

    def __init__(self, _: RecordsConfig) -> None:
        pass

    def __call__(self, table: pa.Table) -> pa.Table:
        return table
