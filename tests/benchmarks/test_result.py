import json
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.benchmarks.answers import BenchmarkAnswer
from c3l_ray.benchmarks.catalogue import CATALOGUE
from c3l_ray.benchmarks.mme import COGNITION, PERCEPTION
from c3l_ray.benchmarks.result import (
    check_same_questions,
    describe_answers,
    measure_answers,
    read_result,
)
from c3l_ray.benchmarks.scores import Figures
from c3l_ray.errors import PreflightError
from c3l_ray.runs.folder import RunFolder
from tests.benchmarks.builders import make_answer


def answer_mme(subtask: str, *verdicts: str | None) -> list[BenchmarkAnswer]:
    """Answers about images of a subtask, each with a question of yes and one of no."""
    return [
        make_answer(
            f"{subtask} {n}",
            ("yes", "no")[n % 2],
            verdict,
            group=subtask,
            item=f"{subtask} {n // 2}",
            image=f"{subtask}/{n // 2}.jpg",
        )
        for n, verdict in enumerate(verdicts)
    ]


def pick(figures: Figures | None, name: str) -> dict[str, Any]:
    assert figures is not None
    return {group: row[name] for group, row in figures.items()}


def test_a_score_of_mme_is_a_hundred_times_accuracy_and_accuracy_of_images() -> None:
    answers = answer_mme("existence", "yes", "no", "yes", "yes")  # 3 of 4; 1 of 2 images
    answers += answer_mme("count", "yes", None)  # 1 of 2; no image
    figures, official = measure_answers(answers, CATALOGUE["mme"])
    scores = {"existence": 75 + 50, "count": 50, "all": None}
    assert pick(figures, "score") == scores  # neither half is whole
    assert pick(figures, "unreadable") == {"existence": 0, "count": 1, "all": 1}
    assert pick(official, "score") == scores  # "Well." is "other" to the script too


def test_the_sums_of_mme_are_of_whole_halves() -> None:
    answers = [a for name in PERCEPTION for a in answer_mme(name, "yes", "no")]
    answers += [a for name in COGNITION[1:] for a in answer_mme(name, "yes", "no")]
    figures, _ = measure_answers(answers, CATALOGUE["mme"])
    assert pick(figures, "score")["perception"] == 2000.0 and "cognition" not in figures
    assert figures["perception"]["questions"] == 20
    answers += answer_mme(COGNITION[0], "no", "no")
    figures, _ = measure_answers(answers, CATALOGUE["mme"])
    assert pick(figures, "score")["cognition"] == 600.0 + 50.0


def test_a_file_of_pope_named_as_a_subtask_of_mme_has_no_score() -> None:
    answers = [make_answer("1", "yes", "yes", group="count")]
    figures, _ = measure_answers(answers, CATALOGUE["pope"])
    assert "score" not in figures["count"]


def test_popes_own_reading_stands_beside_ours() -> None:
    answers = [
        make_answer("1", "yes", "yes"),
        make_answer("2", "yes", None),  # "Well.", which the script takes for yes
        make_answer("3", "no", None, status="failed"),
    ]
    figures, official = measure_answers(answers, CATALOGUE["pope"])
    assert pick(figures, "accuracy") == {"random": 0.5}
    assert pick(official, "accuracy") == {"random": 1.0}
    assert pick(official, "questions") == {"random": 2}  # nothing is read where nothing was said


def test_circular_evaluation_counts_questions_that_are_right_in_every_turn() -> None:
    def answer(key: str, item: str, verdict: str) -> BenchmarkAnswer:
        return make_answer(key, "A", verdict, group="shapes", item=item)

    answers = [answer("1", "1", "A"), answer("1000001", "1", "A"), answer("2000001", "1", "B")]
    answers += [answer("2", "2", "A"), answer("1000002", "2", "A")]
    figures, official = measure_answers(answers, CATALOGUE["mmbench"])
    assert (figures["shapes"]["item_accuracy"], figures["shapes"]["accuracy"]) == (0.5, 0.8)
    assert official is None


def test_what_was_not_asked_could_not_be_or_cannot_be_read_is_counted() -> None:
    answers = [
        make_answer("1", "yes", "yes"),
        make_answer("2", "no", None),
        make_answer("3", "no", "no", status="truncated"),
        make_answer("4", "no", None, status="refused"),
        make_answer("5", "no", None, status="failed"),
        make_answer("6", "no", None, status="failed"),
    ]
    answers.append(BenchmarkAnswer(**{**vars(answers[0]), "status": "not_asked"}))
    assert describe_answers(answers) == {
        "questions": 7,
        "not_asked": 1,
        "failed": {"refused": 1, "failed": 2},
        "failure_examples": {
            "refused": "4: refused: for a test",
            "failed": "5: failed: for a test",
        },
        "answer_status": {"ok": 2, "truncated": 1},
        "unreadable": 1,
        "unreadable_examples": ["2: Well."],
    }


def test_other_questions_are_not_compared(tmp_path: Path) -> None:
    folder = RunFolder.open(str(tmp_path), "--against")
    other = {"benchmark": "pope", "questions_digest": "a"}
    check_same_questions(other, folder, "pope", "a")
    with pytest.raises(PreflightError, match="answers pope, and this command mme"):
        check_same_questions(other, folder, "mme", "a")
    with pytest.raises(PreflightError, match="answers other questions of pope than --data has"):
        check_same_questions(other, folder, "pope", "b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no result.json; name the output of a finished jobs.evaluate benchmark"),
        ("{", "cannot be read"),
        (json.dumps([1]), "its result.json is not that of a benchmark"),
        (json.dumps({"benchmark": "pope"}), "its result.json is not that of a benchmark"),
    ],
)
def test_a_folder_without_a_result_is_refused(
    tmp_path: Path, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "result.json").write_text(content)
    with pytest.raises(PreflightError, match=message):
        read_result(RunFolder.open(str(tmp_path), "--against"))
