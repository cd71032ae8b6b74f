"""How a process comes up, without Ray and models."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from c3l_ray.config import GenerateConfig, RecordsConfig
from c3l_ray.distributed import processes
from c3l_ray.distributed.ledger import Ledger
from c3l_ray.distributed.processes import GeneratorProcess, ScorerProcess, booting
from c3l_ray.distributed.stop_flag import StopFlag
from c3l_ray.distributed.unit_steps import Surroundings
from c3l_ray.errors import C3LError
from c3l_ray.runs.folder import RunFolder
from tests.distributed.kv_store import replace_store
from tests.examples import MakeConfig


class Hangs:
    """A model that is loaded for longer than it may be."""

    def __init__(self, _: GenerateConfig | RecordsConfig) -> None:
        time.sleep(1)


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A dictionary in place of Ray's store."""
    monkeypatch.setattr(processes, "find_log_files", lambda: "/logs/worker-*")
    return replace_store(monkeypatch)


@pytest.mark.parametrize("stage", ["generating", "scoring"])
def test_a_process_whose_model_does_not_come_up_ends(
    stage: str, config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After three of them in a row the next one ends the job, and says why."""
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    steps = SimpleNamespace(ledger=Ledger(f"key/{stage}", "process"))
    monkeypatch.setattr(processes, "UnitSteps", lambda *_, **__: steps)
    # Here the process lives on, and its model comes up late: that is no success.
    monkeypatch.setattr(Ledger, "forget_hung_boots", lambda _: None)
    surroundings = Surroundings(RunFolder.open(str(tmp_path)), StopFlag())

    def start() -> object:
        hasty = config(boot_timeout=0.2)
        if stage == "generating":
            return GeneratorProcess(Hangs, hasty, surroundings)
        return ScorerProcess(Hangs, hasty, surroundings, True)

    for _ in range(3):
        start()
    assert ended == [1, 1, 1]
    with pytest.raises(C3LError, match=f"3 {stage} processes in a row did not load their model"):
        start()


def test_a_process_that_comes_up_makes_up_for_those_that_did_not(store: dict[str, str]) -> None:
    ledger = Ledger("key", "process")
    ledger.note_hung_boot()
    ledger.note_hung_boot()
    assert ledger.count_hung_boots() == 2
    with booting(ledger, "scoring", 60):
        pass
    assert ledger.count_hung_boots() == 0 and not store
