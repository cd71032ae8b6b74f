from pathlib import Path

from c3l_ray.report.gather import find_outputs
from c3l_ray.report.shown_turns import ShownTurn, choose_turns, find_failures
from c3l_ray.report.turn_table import read_turns
from tests.report.runs import UNUSABLE, make_records, make_turn, write_run


def choose(path: Path, by: str = "visual_ifd", max_turns: int = 30) -> list[ShownTurn]:
    (run,) = find_outputs([str(path)]).runs
    return choose_turns(read_turns(run), by, max_turns)


def in_group(shown: list[ShownTurn], group: str) -> list[ShownTurn]:
    return [one for one in shown if one.group == group]


def test_the_best_have_the_lowest_visual_ifd_and_the_highest_gain(tmp_path: Path) -> None:
    records = make_records(40)
    for number, record in enumerate(records):
        record["turns"][0]["scores"]["gain"] = float(number % 7)
        record["turns"][0] |= {"draft": None, "alternatives": None}
    write_run(tmp_path, records[:20], records[20:])
    shown = choose(tmp_path)
    best = [one.record["image_id"] for one in in_group(shown, "best")]
    assert best == [f"image-{number}" for number in range(39, 39 - len(best), -1)]
    worst = [one.record["image_id"] for one in in_group(shown, "worst")]
    assert worst == [f"image-{number}" for number in range(len(worst))]
    gains = [one.turn["scores"] for one in in_group(choose(tmp_path, "gain"), "best")]
    assert {scores["gain"] for scores in gains if scores} == {6.0}
    middling = [one.rank for one in in_group(shown, "middling")]
    assert all(0.4 < (rank or 0) < 0.6 for rank in middling)


def test_each_turn_is_shown_once_and_no_more_than_asked_for(tmp_path: Path) -> None:
    write_run(tmp_path, make_records(60), make_records(60, first=60))
    for max_turns in (1, 30, 90):
        shown = choose(tmp_path, max_turns=max_turns)
        places = {(one.record["image_id"], one.place) for one in shown}
        assert len(places) == len(shown) <= max(max_turns, 3 + 24)
    assert in_group(shown, "others")


def test_the_extremes_differ_in_image_and_answer(tmp_path: Path) -> None:
    same = [make_turn(0.01, answer="Yes."), make_turn(0.02, answer="Yes.")]
    write_run(tmp_path, [{"turns": same}, {"image_id": "x", "turns": same}, *make_records(30)])
    best = in_group(choose(tmp_path, max_turns=60), "best")
    assert len({one.record["image_id"] for one in best}) == len(best) > 2
    assert len({one.turn.get("answer") for one in best}) == len(best)


def test_special_and_unusable_turns_are_shown_for_what_they_are(tmp_path: Path) -> None:
    plain = make_records(60)
    for record in plain:
        record["turns"][0] |= {"draft": None, "alternatives": None}
    corrected = make_turn(0.02, alternatives=None, answer="It is blue.")
    alternatives = make_turn(0.021, draft=None, answer="It is green.")
    truncated = {**UNUSABLE, "status": "truncated"}
    special = {"image_id": "s", "turns": [corrected, alternatives, UNUSABLE, truncated]}
    write_run(tmp_path, plain, [special])
    shown = choose(tmp_path)
    assert [one.place for one in in_group(shown, "corrected")] == [0]
    assert [one.place for one in in_group(shown, "alternatives")] == [1]
    assert sorted(one.place for one in in_group(shown, "unusable")) == [2, 3]
    assert all(one.rank is None for one in in_group(shown, "unusable"))


def test_a_run_without_scored_turns_shows_those_that_it_has(tmp_path: Path) -> None:
    write_run(tmp_path, [{"turns": [UNUSABLE]}])
    assert [one.group for one in choose(tmp_path)] == ["unusable"]


def test_failures_are_found_for_every_reason(tmp_path: Path) -> None:
    failed = [{"image_id": f"f{n}", "turns": [], "error": "empty: no bytes"} for n in range(9)]
    rare = {"image_id": "rare", "turns": [], "error": "too_large: 9 x 9"}
    text_only = {"turns": [], "error": "text_only: no image"}
    write_run(tmp_path, [*failed, text_only], make_records(3), [*make_records(2), rare])
    (run,) = find_outputs([str(tmp_path)]).runs
    failures = find_failures(run)
    assert [failure.reason for failure in failures] == ["empty"] * 4 + ["too_large"]
    assert failures[-1].record["image_id"] == "rare"
