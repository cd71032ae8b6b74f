"""What becomes of a unit whose tasks die, without any that does."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from c3l_ray.distributed import reading
from c3l_ray.distributed.reading import MAX_TASK_DEATHS
from c3l_ray.distributed.stop_flag import StopFlag
from c3l_ray.distributed.unit_steps import Surroundings
from c3l_ray.errors import C3LError
from c3l_ray.inputs import read
from c3l_ray.inputs.find import find_shards
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.units import Shard
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes.world import write_shard
from tests.distributed.kv_store import replace_store


class Dies(Exception):
    """In place of a process that does."""


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A dictionary in place of Ray's store."""
    monkeypatch.setattr(reading, "find_log_files", lambda: "/logs/worker-*")
    return replace_store(monkeypatch)


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    """A tar of three images."""
    (tmp_path / "in").mkdir()
    write_shard(tmp_path / "in" / "a.tar", [(f"{n}.jpg", b"x") for n in range(3)])
    (shard,) = find_shards((str(tmp_path / "in"),), Layout())
    return shard


def die(times: int, work: Callable[..., object]) -> Callable[..., object]:
    """Work whose process dies so many times before it is done."""
    left = [times]

    def dies_first(*args: object) -> object:
        if left[0]:
            left[0] -= 1
            raise Dies
        return work(*args)

    return dies_first


def retry(task: Callable[[], object]) -> tuple[object, int]:
    """What a task returns that Ray begins again for ever, and how often it died."""
    for deaths in range(100):
        try:
            return task(), deaths
        except Dies:
            continue
    raise AssertionError("the task is never done")


def test_a_few_deaths_lose_neither_a_shard_nor_a_unit(
    shard: Shard, tmp_path: Path, store: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = MAX_TASK_DEATHS - 1
    assert few >= 3
    monkeypatch.setattr(reading, "index_shard", die(few, read.index_shard))
    units, deaths = retry(lambda: reading.try_to_index(shard, Layout(), "key"))
    assert isinstance(units, list)
    assert (deaths, [unit.rows for unit in units]) == (few, [3])
    monkeypatch.setattr(reading, "read_unit", die(few, read.read_unit))
    surroundings = Surroundings(RunFolder.open(str(tmp_path / "run")), StopFlag())
    tables, deaths = retry(lambda: reading.read_block(units[0], Layout(), surroundings))
    assert isinstance(tables, list) and deaths == few
    assert tables[0]["error"].null_count == 3 and not store


def test_a_shard_that_kills_its_processes_is_left_to_the_next_command(
    shard: Shard, store: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no damage: its images may be whole."""
    monkeypatch.setattr(reading, "index_shard", die(MAX_TASK_DEATHS, read.index_shard))
    task = lambda: reading.try_to_index(shard, Layout(), "key")  # noqa: E731
    assert retry(task) == (None, MAX_TASK_DEATHS)
    assert not store and isinstance(task(), list)
    message = str(reading.explain_unindexed([shard, shard]))
    assert message.startswith(f"--input {shard.address} and 1 other shards: not indexed")
    assert "/logs/worker-*" in message


def test_a_unit_whose_tasks_die_for_ever_ends_the_job_with_a_reason(
    store: dict[str, str],
) -> None:
    staged = pa.table({"unit": ["u-00000"] * 2})
    commit = die(MAX_TASK_DEATHS - 1, lambda table: table.num_rows)
    task = lambda: reading.bound_deaths(commit, "committing", "key", staged)  # noqa: E731
    assert retry(task) == (2, MAX_TASK_DEATHS - 1) and not store
    commit = die(100, lambda table: table.num_rows)
    with pytest.raises(C3LError, match=f"unit u-00000: {MAX_TASK_DEATHS} committing processes"):
        retry(lambda: reading.bound_deaths(commit, "committing", "key", staged))
