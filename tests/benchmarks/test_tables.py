from typing import Any

from c3l_ray.benchmarks.result import BenchmarkResult
from c3l_ray.benchmarks.tables import format_result

ROW: dict[str, float | int | None] = {
    "questions": 4,
    "unreadable": 1,
    "accuracy": 0.5,
    "precision": None,
}


def make_result(**fields: Any) -> BenchmarkResult:
    defaults: dict[str, Any] = {
        "benchmark": "pope",
        "source": "POPE",
        "model": "mine",
        "origin": "o",
        "questions_digest": "d",
        "suffix": "",
        "suffix_source": "the official questions as they are",
        "questions": 6,
        "not_asked": 0,
        "failed": {},
        "failure_examples": {},
        "answer_status": {"ok": 4},
        "unreadable": 0,
        "unreadable_examples": [],
        "figures": {"random": ROW, "all": ROW},
    }
    return BenchmarkResult(**{**defaults, **fields})


def find_line(text: str, beginning: str) -> list[str]:
    """The words of the only line that begins so."""
    (line,) = [line for line in text.splitlines() if line.strip().startswith(beginning)]
    return line.split()


def test_the_table_has_a_row_of_each_group_and_a_dash_for_no_figure() -> None:
    text = format_result(make_result(), "runs/pope/")
    assert find_line(text, "pope ") == ["pope", "questions", "unreadable", "accuracy", "precision"]
    assert find_line(text, "random") == ["random", "4", "1", "0.500", "-"]
    assert "without a suffix (the official questions as they are)" in text
    assert "runs/pope/answers.parquet" in text and "go on" not in text


def test_what_failed_and_what_cannot_be_read_is_shown_with_examples() -> None:
    text = format_result(
        make_result(
            failed={"unreadable": 2},
            failure_examples={"unreadable": "random 5: unreadable: gone.jpg"},
            unreadable=1,
            unreadable_examples=["random 2: Well\nnow."],
            not_asked=3,
            suffix="In a word.",
            suffix_source="--suffix",
        ),
        "run",
    )
    assert "failed    unreadable 2" in text and "for example random 5: unreadable: gone.jpg" in text
    assert "answers say none of what the labels say 1" in text
    assert "for example random 2: Well now." in text
    assert "asked     3 of 6 questions, each with 'In a word.' (--suffix)" in text
    assert "go on     by the same command without --limit" in text


def test_the_official_reading_is_a_table_where_it_differs() -> None:
    same = format_result(make_result(official={"random": ROW, "all": ROW}), "run")
    assert "the benchmark's own script reads the same figures" in same
    other = {**ROW, "unreadable": 0, "accuracy": 0.75}
    differs = format_result(make_result(official={"random": other, "all": ROW}), "run")
    assert "as its own script reads" in differs and "0.750" in differs


def test_items_are_called_as_each_benchmark_calls_them() -> None:
    row: dict[str, float | int | None] = {"item_accuracy": 0.5}
    for benchmark, name in (("mme", "acc+"), ("mmbench", "circular")):
        text = format_result(make_result(benchmark=benchmark, figures={"all": row}), "run")
        assert find_line(text, benchmark)[-1] == name


def test_a_comparison_shows_differences_intervals_and_mcnemar() -> None:
    group = {
        "items": 4,
        "differences": {
            "accuracy": {"value": 0.25, "low": -0.125, "high": 0.5},
            "precision": {"value": None, "low": None, "high": None},
            "recall": {"value": 0.5, "low": None, "high": None},
            "score": {"value": 1234.56, "low": -100.0, "high": 2000.0},
        },
        "only_this": 2,
        "only_other": 1,
        "p_value": 0.5,
    }
    against = {"output": "o", "model": "theirs", "origin": "p", "suffix": "In a word."}
    text = format_result(make_result(against={**against, "groups": {"random": group}}), "run")
    assert find_line(text, "less theirs")[2:] == [
        *("accuracy", "precision", "recall", "score", "McNemar")
    ]
    (row,) = [line.split() for line in text.splitlines() if "p=0.5" in line]
    assert row[:6] == ["random", "+0.250", "[-0.125,", "+0.500]", "-", "+0.500"]
    assert row[6:] == ["+1234.6", "[-100.0,", "+2000.0]", "+2", "-1", "p=0.5"]
    assert "note: the other was asked with the suffix 'In a word.'" in text
