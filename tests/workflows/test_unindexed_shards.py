"""A shard that kills the processes which index it, and the command that meets it; without Ray."""

from pathlib import Path
from typing import Any

import pytest

from c3l_ray.distributed import metrics, pipeline, reading
from c3l_ray.errors import C3LError
from c3l_ray.identity import Identity
from c3l_ray.inputs.units import Shard, Unit
from c3l_ray.runs.commit import Manifest
from c3l_ray.runs.counts import Counts
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.report import RunProgress
from c3l_ray.workflows.records import write_records
from tests.examples import MakeConfig


class CountsNothing:
    """In place of a job's metrics, which are Ray's."""

    def __init__(self, _: str) -> None:
        pass

    def count_manifests(self, manifests: Any, *_: Any) -> Any:
        return manifests


def test_a_shard_that_is_not_indexed_ends_the_command_once_the_others_are_done(
    config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is neither a damaged row nor left out in silence: the same command tries it again."""
    fields: dict[str, Any] = {"format": "tar", "path": "a", "source": "a"}
    unit = Unit(name="0", rows=10, start=0, end=9, **fields)

    def plan(_: Any, __: Any, ___: Any, unindexed: list[Shard]) -> list[Unit]:
        unindexed.append(Shard(format="tar", path="file:///in/b.tar", source="b.tar", size=9))
        return [unit]

    done = Manifest(unit="0", source="a", origin="o", counts=Counts(images=10, status={"ok": 10}))
    monkeypatch.setattr(pipeline, "plan_units", plan)
    monkeypatch.setattr(pipeline, "process_units", lambda *_, **__: iter([done]))
    monkeypatch.setattr(metrics, "JobMetrics", CountsNothing)
    monkeypatch.setattr(reading, "find_log_files", lambda: "/logs/worker-*")
    progress = RunProgress(RunFolder.open(str(tmp_path)), config(), Identity({}), "generate")
    with pytest.raises(C3LError, match=r"--input /in/b\.tar: not indexed") as raised:
        write_records(config(), [], progress, generates=True)
    assert raised.value.exit_status == 1
    assert (progress.counts.images, progress.total_images) == (10, 10)
