"""Jobs that are killed lose and double nothing; and the harness sees it where one does."""

import random
import uuid
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.runs.commit import commit_unit
from tests.faults import commit_kills

pytestmark = pytest.mark.timeout(300)


def test_sixty_kills_lose_and_double_nothing() -> None:
    tally = commit_kills.run(kills=60)
    assert tally.kills >= 60 and tally.redone_units > 0
    assert tally.found == tally.expected > 0
    assert (tally.duplicated, tally.strays) == (0, 0)


def test_a_commit_that_another_does_not_exclude_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit_always(folder: Any, unit: str, *rest: Any) -> Any:
        return commit_unit(folder, f"{unit}{uuid.uuid4().hex[:4]}", *rest)

    monkeypatch.setattr(commit_kills, "commit_unit", commit_always)
    tally = commit_kills.try_format("tar", tmp_path / "try", random.Random(0))
    assert tally.kills and tally.duplicated


def test_files_that_nobody_deletes_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_kills, "delete_lost_files", lambda folder, **_: 0)
    tallies = [
        commit_kills.try_format("tar", tmp_path / str(seed), random.Random(seed))
        for seed in range(4)
    ]
    assert sum(tally.strays for tally in tallies) > 0
