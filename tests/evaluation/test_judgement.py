from pathlib import Path

from c3l_ray.evaluation.judgement import count_truths, judge_run, judge_turns, true_share
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes.truth import Truth
from tests.evaluation.builders import make_judged_turn, make_table, write_run


def test_good_turns_about_scenes_are_judged_and_turns_about_other_images_are_not() -> None:
    photograph = {"meta": None, "key": "cat"}
    other_json = {"meta": '{"caption": "a cat"}', "key": "dog"}
    turns = judge_turns([make_table({}, photograph, other_json)])
    assert [(turn.image.split()[1], turn.truth) for turn in turns] == [
        ("00000007", "true"),
        ("cat", None),
        ("dog", None),
    ]


def test_all_good_turns_of_a_run_are_judged(tmp_path: Path) -> None:
    write_run(tmp_path, {}, {"meta": None})
    turns = judge_run(RunFolder.open(str(tmp_path)))
    assert [turn.truth for turn in turns] == ["true", None]


def test_unknown_counts_as_not_true() -> None:
    truths: list[Truth | None] = ["true", "false", "unknown", "true", None]
    turns = [make_judged_turn(truth) for truth in truths]
    assert true_share(turns) == 0.5
    assert count_truths(turns)["unknown"] == 1
    assert true_share(turns[-1:]) is None


def test_a_turn_has_the_scores_of_its_record() -> None:
    turn = make_judged_turn("true", 0.5)
    assert turn.score("gain") == 0.5
    turn.turn["scores"] = None
    assert turn.score("gain") is None
