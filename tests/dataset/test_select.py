import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.dataset import parquet_export
from c3l_ray.dataset.select import select_turns
from c3l_ray.errors import C3LError, PreflightError
from c3l_ray.select_config import SelectConfig
from tests.dataset.runs import (
    ALL_TURNS,
    WriteRun,
    make_turn,
    read_questions,
    read_rows,
)


def test_the_top_share_of_all_turns_is_kept_with_its_images(write_run: WriteRun) -> None:
    path = write_run(
        [[make_turn(0.1), make_turn(0.9)], [make_turn(0.2)]], [[make_turn(0.8), make_turn(0.3)]]
    )
    report = select_turns(SelectConfig(input=str(path), top=0.4))
    assert read_questions(path / "dataset") == ["q 0.9", "q 0.8"]
    assert (report.turns, report.scored_turns, report.images) == (2, 5, 2)
    assert report.threshold == pytest.approx(0.8)
    written = json.loads((path / "dataset" / "selection.json").read_text())
    assert written == dataclasses.asdict(report)


def test_the_top_of_each_image_is_at_least_one_turn(write_run: WriteRun) -> None:
    path = write_run(
        [[make_turn(0.1), make_turn(0.9)], [make_turn(0.2)]], [[make_turn(0.8), make_turn(0.3)]]
    )
    select_turns(SelectConfig(input=str(path), top=0.1, per="image"))
    assert read_questions(path / "dataset") == ["q 0.9", "q 0.2", "q 0.8"]


def test_from_one_on_top_is_a_number_of_turns(write_run: WriteRun) -> None:
    path = write_run(
        [[make_turn(0.1), make_turn(0.9)], [make_turn(0.2)]], [[make_turn(0.8), make_turn(0.3)]]
    )
    assert select_turns(SelectConfig(input=str(path), top=3)).turns == 3
    assert select_turns(SelectConfig(input=str(path), top=5000)).turns == 5
    assert select_turns(SelectConfig(input=str(path), top=2, per="image")).turns == 5
    assert select_turns(SelectConfig(input=str(path), top=1)).turns == 1
    assert read_questions(path / "dataset") == ["q 0.9"]
    assert select_turns(SelectConfig(input=str(path), top=1, per="image")).turns == 3
    assert read_questions(path / "dataset") == ["q 0.9", "q 0.2", "q 0.8"]
    assert select_turns(SelectConfig(input=str(path), top=0.99)).turns == 5
    assert select_turns(SelectConfig(input=str(path), top=1e30, per="image")).turns == 5
    with pytest.raises(PreflightError, match=r"--top 2.5"):
        SelectConfig(input=str(path), top=2.5)


def test_turns_that_the_image_refutes_are_left_out_and_counted(write_run: WriteRun) -> None:
    path = write_run(
        [[make_turn(0.9, gain=-0.1), make_turn(0.1)], [make_turn(0.8, gain=-2.0)]],
        [[make_turn(0.7, gain=None), make_turn(0.3, gain=0.0)]],
    )
    report = select_turns(SelectConfig(input=str(path), top=0.4))
    assert read_questions(path / "dataset") == ["q 0.7", "q 0.3"]  # as many as without the guard
    assert (report.require_gain, report.refuted_turns, report.scored_turns) == (True, 2, 5)
    assert report.threshold == pytest.approx(0.3)
    report = select_turns(SelectConfig(input=str(path), top=0.4, require_gain=False))
    assert read_questions(path / "dataset") == ["q 0.9", "q 0.8"]
    assert (report.require_gain, report.refuted_turns) == (False, 0)
    # An image of refuted turns only has none to keep.
    assert select_turns(SelectConfig(input=str(path), top=1, per="image")).images == 2
    assert read_questions(path / "dataset") == ["q 0.1", "q 0.7"]
    assert select_turns(SelectConfig(input=str(path), top=ALL_TURNS)).turns == 3
    report = select_turns(SelectConfig(input=str(path), top=1, within="kind"))
    assert report.threshold == pytest.approx(0.5)  # a percentile among all scored turns


@pytest.mark.parametrize(
    "by",
    [
        *("random", "clip", "image_logprob", "min_logprob", "text_logprob", "posed_logprob"),
        *("gain", "visual_ifd"),
    ],
)
def test_a_control_ranks_what_the_image_refutes_too(write_run: WriteRun, by: Any) -> None:
    path = write_run([[make_turn(0.9, gain=-0.1), make_turn(0.8), make_turn(0.7, gain=-3.0)]])
    report = select_turns(SelectConfig(input=str(path), top=ALL_TURNS, by=by))
    is_control = by not in ("gain", "visual_ifd")
    assert (report.require_gain, report.refuted_turns) == ((False, 0) if is_control else (True, 2))
    assert report.turns == (3 if is_control else 1)


def test_a_run_that_its_images_refute_is_not_selected_from(write_run: WriteRun) -> None:
    path = write_run([[make_turn(0.9, gain=-0.1)], [make_turn(0.8, gain=-2.0)]])
    with pytest.raises(PreflightError, match=r"--require-gain: the image refutes all 2 scored"):
        select_turns(SelectConfig(input=str(path)))
    assert not (path / "dataset").exists()
    assert select_turns(SelectConfig(input=str(path), require_gain=False)).turns == 1


def make_turn_of_kind(kind: str, i2c: float, answer: str = "red") -> dict[str, Any]:
    return {**make_turn(i2c), "kind": kind, "answer": answer}


def test_within_a_kind_each_kind_gives_its_share(write_run: WriteRun) -> None:
    short = [make_turn_of_kind("short", i / 100) for i in range(10)]
    detail = [make_turn_of_kind("detail", 5 + i) for i in range(10)]
    path = write_run([[turn] for turn in (*short, *detail)])
    select_turns(SelectConfig(input=str(path), top=0.2))
    assert {row["kind"] for row in read_rows(path / "dataset")} == {"detail"}
    report = select_turns(SelectConfig(input=str(path), top=0.2, within="kind"))
    assert sorted(read_questions(path / "dataset")) == ["q 0.08", "q 0.09", "q 13", "q 14"]
    assert report.within == "kind" and report.threshold == pytest.approx(0.85)


def test_within_lengths_short_answers_are_kept_beside_long_ones(write_run: WriteRun) -> None:
    turns = [make_turn_of_kind("short", i, "x" * (i + 1)) for i in range(16)]
    path = write_run([[turn] for turn in turns])
    select_turns(SelectConfig(input=str(path), top=0.25, within="kind_and_length"))
    assert [len(row["messages"][1]["content"]) for row in read_rows(path / "dataset")] == [
        *(4, 8, 12, 16)
    ]


@pytest.mark.parametrize("within", ["dataset", "kind"])
def test_the_lowest_ratio_of_losses_is_the_best(write_run: WriteRun, within: Any) -> None:
    turns = [make_turn(ratio) for ratio in (0.5, 0.1, 2.0)]
    for turn in turns:
        turn["scores"]["visual_ifd"] = turn["scores"]["i2c"]
    path = write_run([turns])
    config = SelectConfig(input=str(path), top=0.3, by="visual_ifd", within=within)
    report = select_turns(config)
    assert read_questions(path / "dataset") == ["q 0.1"]
    assert report.threshold == pytest.approx(0.1 if within == "dataset" else 5 / 6)


@pytest.mark.parametrize(
    ("flags", "kept", "num_worse"),
    [
        ({"at_least": 0.7}, ["q 0.9", "q 0.7"], 2),  # 0.7 in 32 bits is a little less
        ({"at_least": 0.7, "top": 1.0}, ["q 0.9"], 2),
        ({"at_least": 0.2, "top": 0.5, "per": "image"}, ["q 0.9", "q 0.7"], 1),
        ({"at_least": 0.2, "within": "kind", "top": 0.75}, ["q 0.9", "q 0.2", "q 0.7"], 1),
        ({"at_least": -1.0}, ["q 0.9", "q 0.1", "q 0.2", "q 0.7"], 0),
    ],
)
def test_turns_that_are_not_good_enough_are_left_out_and_counted(
    write_run: WriteRun, flags: dict[str, Any], kept: list[str], num_worse: int
) -> None:
    path = write_run([[make_turn(0.9), make_turn(0.1)], [make_turn(0.2), make_turn(0.7)]])
    report = select_turns(SelectConfig(input=str(path), **flags))
    assert sorted(read_questions(path / "dataset")) == sorted(kept)
    assert (report.scored_turns, report.worse_turns) == (4, num_worse)
    assert (report.at_least, report.top) == (flags["at_least"], flags.get("top"))


def test_where_lower_is_better_good_enough_is_low(write_run: WriteRun) -> None:
    turns = [make_turn(ratio) for ratio in (0.5, 0.1, 2.0)]
    for turn in turns:
        turn["scores"]["visual_ifd"] = turn["scores"]["i2c"]
    path = write_run([turns])
    report = select_turns(SelectConfig(input=str(path), by="visual_ifd", at_least=0.5))
    assert read_questions(path / "dataset") == ["q 0.5", "q 0.1"]
    assert (report.threshold, report.worse_turns) == (0.5, 1)
    message = r"^--at-least 0\.05: no scored turn in .* is as good; the best visual_ifd is 0\.1$"
    with pytest.raises(PreflightError, match=message):
        select_turns(SelectConfig(input=str(path), by="visual_ifd", at_least=0.05))
    assert len(read_questions(path / "dataset")) == 2  # the earlier selection stays


def test_a_refuted_turn_is_not_the_best_that_is_good_enough(write_run: WriteRun) -> None:
    path = write_run([[make_turn(0.9, gain=-1.0), make_turn(0.1)]])
    with pytest.raises(PreflightError, match=r"is as good; the best i2c is 0\.1"):
        select_turns(SelectConfig(input=str(path), at_least=0.5))


def test_turns_that_are_not_ok_or_have_no_score_are_never_chosen(write_run: WriteRun) -> None:
    path = write_run(
        [
            [
                make_turn(0.9, status="duplicate"),
                make_turn(None),
                make_turn(0.1),
                make_turn(float("nan")),
            ]
        ]
    )
    report = select_turns(SelectConfig(input=str(path), top=ALL_TURNS))
    assert read_questions(path / "dataset") == ["q 0.1"]
    assert report.scored_turns == 1


def test_another_score_ranks_otherwise(write_run: WriteRun) -> None:
    path = write_run([[make_turn(0.9, clip=0.1), make_turn(0.1, clip=0.9)]])
    select_turns(SelectConfig(input=str(path), top=0.5, by="clip"))
    assert read_questions(path / "dataset") == ["q 0.1"]


def test_a_random_choice_depends_on_the_seed_alone(write_run: WriteRun) -> None:
    path = write_run([[make_turn(i / 10) for i in range(10)] for _ in range(5)])
    choices = []
    for seed in (0, 0, 1):
        report = select_turns(SelectConfig(input=str(path), top=0.2, by="random", seed=seed))
        assert report.threshold is None
        choices.append(read_questions(path / "dataset"))
    assert choices[0] == choices[1] != choices[2]
    assert len(choices[0]) == 10


def test_ties_fall_the_same_way_each_time(write_run: WriteRun) -> None:
    path = write_run([[make_turn(0.0), make_turn(0.0)]], [[make_turn(0.0), make_turn(0.0)]])
    select_turns(SelectConfig(input=str(path), top=0.5))
    rows = read_rows(path / "dataset")
    assert [row["turn_id"] for row in rows] == ["u-00000-0-0", "u-00000-0-1"]


def test_many_small_units_become_few_files(
    write_run: WriteRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_run(*[[[make_turn(0.5)], [make_turn(0.4)]] for _ in range(5)])
    monkeypatch.setattr(parquet_export, "FILE_ROWS", 4)
    assert select_turns(SelectConfig(input=str(path), top=ALL_TURNS)).files == 3
    assert len(read_rows(path / "dataset")) == 10


@pytest.mark.parametrize("position", [10, -100])
def test_a_damaged_file_is_told(write_run: WriteRun, position: int) -> None:
    path = write_run([[make_turn(0.1)]])
    (file,) = (path / "records").iterdir()
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)
    with pytest.raises(C3LError, match=r"is damaged|cannot be read"):
        select_turns(SelectConfig(input=str(path), top=ALL_TURNS))


def test_an_input_that_is_no_run_or_has_no_scores_is_refused(
    tmp_path: Path, write_run: WriteRun
) -> None:
    with pytest.raises(PreflightError, match=r"no run\.json"):
        select_turns(SelectConfig(input=str(tmp_path)))
    path = write_run([[make_turn(None)]])
    with pytest.raises(PreflightError, match="--by i2c: no turn"):
        select_turns(SelectConfig(input=str(path)))


def test_the_labels_of_a_benchmark_are_not_selected(write_run: WriteRun) -> None:
    path = write_run([[make_turn(0.1)]])
    run = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps({**run, "job": "benchmark"}))
    with pytest.raises(PreflightError, match=r"^--input .*: is the output of jobs\.evaluate benc"):
        select_turns(SelectConfig(input=str(path)))
    assert not (path / "dataset").exists()


def test_a_run_without_scores_is_refused_with_the_command_that_makes_them(
    write_run: WriteRun,
) -> None:
    path = write_run([[make_turn(None)]])
    run = json.loads((path / "run.json").read_text())
    unscored = {**run, "config": {"score": False, "model": {"name": "llava"}}}
    (path / "run.json").write_text(json.dumps(unscored))
    with pytest.raises(PreflightError, match="--no-score") as refused:
        select_turns(SelectConfig(input=str(path)))
    assert f"python -m jobs.score --input {path} --output {path}-scored" in str(refused.value)
