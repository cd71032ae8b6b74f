"""How a process comes up, without Ray and models."""

import threading
import time
from pathlib import Path

import pytest

from c3l_ray.config import GenerateConfig, RecordsConfig
from c3l_ray.distributed import processes
from c3l_ray.distributed.processes import GeneratorProcess, ScorerProcess
from c3l_ray.distributed.stop_flag import StopFlag
from c3l_ray.distributed.unit_steps import Surroundings
from c3l_ray.runs.folder import RunFolder
from c3l_ray.stall_watch import bounded_boot
from tests.examples import MakeConfig


class Hangs:
    """A model that is loaded for longer than it may be."""

    def __init__(self, _: GenerateConfig | RecordsConfig) -> None:
        time.sleep(1)


@pytest.mark.parametrize("stage", ["generating", "scoring"])
def test_a_process_whose_model_does_not_come_up_ends(
    stage: str, config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    bounds: list[tuple[str, float]] = []

    def bound(stage: str, timeout_s: float) -> object:
        bounds.append((stage, timeout_s))
        return bounded_boot(stage, timeout_s, ended.set)

    monkeypatch.setattr(processes, "bounded_boot", bound)
    monkeypatch.setattr(processes, "UnitSteps", lambda *_, **__: None)
    surroundings = Surroundings(RunFolder.open(str(tmp_path)), StopFlag())
    hasty = config(boot_timeout=0.2)
    if stage == "generating":
        GeneratorProcess(Hangs, hasty, surroundings)
    else:
        ScorerProcess(Hangs, hasty, surroundings, True)
    assert ended.is_set() and bounds == [(stage, 0.2)]
