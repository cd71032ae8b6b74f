import dataclasses
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.identity import Identity
from c3l_ray.runs import report, state
from c3l_ray.runs.commit import Manifest, commit_unit
from c3l_ray.runs.counts import Counts
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.progress_log import read_latest_lines
from c3l_ray.runs.report import RecordsReport, RunProgress
from c3l_ray.runs.retry import Retry
from tests.examples import RECORD, MakeConfig
from tests.runs.tables import stage_turns

COUNTS = Counts(
    images=10,
    status={"ok": 9, "failed": 1},
    reasons={"empty": 1},
    failure_examples={"empty": "a.tar 1: empty: no bytes"},
    turns=45,
    turn_status={"ok": 40, "unparsable": 5},
    tokens=900,
    correction_outcomes={"complete": 30, "no_sentence": 10},
    correction_tokens={"generated": 500, "kept": 400},
    seconds={"generate": 2.0, "score": 1.0},
)
MANIFEST = Manifest(unit="u", source="a.tar", origin="o", attempt="a", counts=COUNTS)
IDENTITY = Identity({"turns_per_image": 5})


@pytest.fixture
def progress(config: MakeConfig) -> RunProgress:
    folder = RunFolder.open(config().output)
    return RunProgress(folder, config(), IDENTITY, "generate")


def with_notes(*notes: str) -> Manifest:
    counts = dataclasses.replace(COUNTS, notes=dict.fromkeys(notes, 1))
    return dataclasses.replace(MANIFEST, counts=counts)


def test_run_json_is_the_sum_of_the_manifests(progress: RunProgress) -> None:
    progress.add(MANIFEST, new=False)
    counts = dataclasses.replace(COUNTS, images=5, status={"ok": 5}, reasons={})
    progress.add(dataclasses.replace(MANIFEST, counts=counts), new=True)
    written = progress.write("finished")
    content = json.loads((Path(progress.folder.path) / "run.json").read_text())
    assert content == json.loads(json.dumps(dataclasses.asdict(written)))
    assert dataclasses.asdict(RecordsReport(**content)) == content
    assert written.job == "generate" and written.images == 15 == sum(written.status.values())
    assert written.reasons == {"empty": 1}
    assert (written.turns, written.tokens) == (90, 1800)
    assert written.turn_status == {"ok": 80, "unparsable": 10}
    assert written.correction_outcomes == {"complete": 60, "no_sentence": 20}
    assert written.correction_tokens == {"generated": 1000, "kept": 800}
    assert written.seconds["generate"] == 4.0 and written.seconds["wall"] >= 0
    assert written.config["model"]["dtype"] == "float32" and written.origin == IDENTITY.origin
    assert written.finished is not None


def as_unit(unit: str, **changes: Any) -> Manifest:
    return dataclasses.replace(MANIFEST, unit=unit, **changes)


def test_units_that_are_healed_count_as_they_are_until_they_are(
    clock: list[float], progress: RunProgress
) -> None:
    progress.total_images = 20
    for unit in ("u-0", "u-1"):
        progress.add(as_unit(unit), new=False)
    before = progress.counts
    retry = Retry(reasons=frozenset({"empty"}), manifests={"u-0": as_unit("u-0")})
    progress.expect(retry, ["u-0"])
    assert progress.counts == before and before.status == {"ok": 18, "failed": 2}
    assert "images=20/20 failed=2 " in progress.format_line()
    healed = dataclasses.replace(
        COUNTS, status={"ok": 10}, reasons={}, seconds={"generate": 3.0, "score": 1.5}
    )
    clock[0] = 101.5  # 100 s of boot, and 1.5 s more of work than before
    progress.add(as_unit("u-0", edition=1, counts=healed), new=True)
    clock[0] = 102.0
    assert progress.counts.status == {"ok": 19, "failed": 1}
    written = progress.write()
    assert (written.images, written.reasons, written.minutes_left) == (20, {"empty": 1}, 0.0)
    assert (written.images_per_s, written.seconds["boot"]) == (0.5, 100.0)  # one row done again


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The clock of the report: seconds, which a test sets."""
    seconds = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    yield seconds
    monkeypatch.undo()


def test_a_line_says_how_far_how_fast_and_how_much_longer(
    clock: list[float], progress: RunProgress
) -> None:
    progress.total_images = 40
    progress.add(MANIFEST, new=False)
    line = progress.format_line()
    assert line.endswith("images=10/40 failed=1 turns=45 images_per_s=? minutes_left=?")
    clock[0] = 103.0  # 100 s of boot, 2 of generating and 1 of scoring
    progress.add(MANIFEST, new=True)
    clock[0] = 105.0
    line = progress.format_line()
    assert line.endswith("images=20/40 failed=2 turns=90 images_per_s=2.00 minutes_left=0.2")
    written = progress.write()
    assert (written.state, written.images_per_s, written.minutes_left) == ("running", 2.0, 0.2)
    assert (written.seconds["boot"], written.seconds["wall"]) == (100.0, 105.0)


def test_a_run_that_only_counts_what_is_done_has_no_speed(progress: RunProgress) -> None:
    progress.total_images = 10
    progress.add(MANIFEST, new=False)
    written = progress.write("finished")
    assert (written.images_per_s, written.minutes_left) == (None, 0.0)
    assert "boot" not in written.seconds


def test_a_failure_is_noted_with_what_is_counted_or_with_what_was(progress: RunProgress) -> None:
    folder = progress.folder
    folder.write_json("run.json", {"origin": IDENTITY.origin, "images": 7})
    progress.note("failed", "no GPU")  # before anything is counted
    noted = folder.read_json("run.json")
    assert noted is not None
    assert (noted["images"], noted["state"], noted["error"]) == (7, "failed", "no GPU")
    progress.add(MANIFEST, new=True)
    progress.write()
    progress.add(MANIFEST, new=True)
    progress.note("stopped")
    noted = folder.read_json("run.json")
    assert noted is not None
    assert (noted["images"], noted["state"], noted["error"]) == (20, "stopped", None)
    assert len(noted["commands"]) == 1


def test_lines_and_run_json_come_while_no_manifest_does(
    progress: RunProgress, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(state, "UPDATE_EVERY_S", 0.02)
    monkeypatch.setattr(state, "TERMINAL_EVERY_S", 0.02)
    caplog.set_level(logging.INFO, report.__name__)
    file = Path(progress.folder.path) / "run.json"

    def wait_and_yield() -> Iterator[Manifest]:
        time.sleep(0.1)
        assert not caplog.messages  # nothing is counted yet
        assert json.loads(file.read_text())["state"] == "running"
        progress.write()
        time.sleep(0.2)
        yield MANIFEST

    progress.folder.claim(IDENTITY, "generate")
    progress.begin()
    progress.follow(wait_and_yield())
    progress.write("finished")
    lines = [*caplog.messages]
    before = [line for line in lines if line.startswith("progress images=0/?")]
    after = [line for line in lines if line.startswith("progress images=10/?")]
    assert len(before) >= 2 and after and lines == [*before, *after]
    # The last line stays on a terminal.
    assert [getattr(record, "progress", False) for record in caplog.records[-2:]] == [True, False]
    time.sleep(0.1)
    assert caplog.messages == lines  # the updates have ended
    content = json.loads(file.read_text())
    assert (content["images"], content["state"]) == (10, "finished")
    *running, last = read_latest_lines(progress.folder)
    assert running[0]["images"] == 0 and {line["images"] for line in running} <= {0, 10}
    assert {line["state"] for line in running} == {"running"}
    assert (last["images"], last["new_images"], last["state"]) == (10, 10, "finished")
    assert (last["turns"], last["tokens"]) == (content["turns"], content["tokens"])
    assert last["reasons"] == content["reasons"]


def test_notes_are_summed_in_run_json(progress: RunProgress) -> None:
    for notes in (["slow"], ["slow", "restarted"]):
        progress.add(with_notes(*notes), new=True)
    assert progress.write().notes == {"slow": 2, "restarted": 1}


def test_a_note_is_logged_once_when_a_new_unit_first_brings_it(
    progress: RunProgress, caplog: pytest.LogCaptureFixture
) -> None:
    progress.add(with_notes("of an earlier command"), new=False)
    progress.add(with_notes("of an earlier command", "slow"), new=True)
    progress.add(with_notes("slow"), new=True)
    assert caplog.messages == ["note: slow"]


def test_a_finished_run_says_which_scores_follow_length(progress: RunProgress) -> None:
    example = RECORD["turns"][0]
    for number in range(2):
        turns = [
            {
                **example,
                "answer": "x" * length,
                "scores": {"i2c": length / 10, "gain": -length, "clip": 0.5},
            }
            for length in range(1 + number, 9, 2)
        ]
        unscored = {**example, "status": "unparsable", "scores": None, "answer": None}
        unit = f"u-{number}"
        staged = stage_turns([*turns, unscored], unit)
        progress.add(commit_unit(progress.folder, unit, "a.tar", staged, "o"), new=True)
    assert progress.write().length_correlation is None
    correlation = progress.write("finished").length_correlation
    assert correlation is not None
    assert (correlation["i2c"], correlation["gain"], correlation["clip"]) == (1.0, -1.0, None)
    assert correlation["flip_rate"] is None  # no turn has it


def test_a_run_without_turns_has_no_correlations(progress: RunProgress) -> None:
    correlation = progress.write("finished").length_correlation
    assert correlation is not None and set(correlation.values()) == {None}
