import json
from pathlib import Path

from c3l_ray.report import comparisons
from c3l_ray.report.gather import Findings, find_outputs
from c3l_ray.report.turn_table import read_turns
from tests.report.runs import UNUSABLE, make_records, make_turn, write_run


def find(*paths: Path) -> Findings:
    return find_outputs([str(path) for path in paths])


def test_a_turn_is_new_where_the_run_before_has_no_such_turn_of_the_image(tmp_path: Path) -> None:
    first = make_records(4)
    second = [*make_records(2), *make_records(2, first=2), {"image_id": "unknown"}]
    second[1]["turns"] = [make_turn(question="Another?", answer="Answer 1 is red.")]
    second[2]["turns"] = [*second[2]["turns"], make_turn(answer="More.")]
    write_run(tmp_path / "first", first)
    write_run(tmp_path / "second", second)
    tables = [read_turns(run) for run in find(tmp_path / "first", tmp_path / "second").runs]
    rows = {row[0]: row[1:] for row in comparisons.compare_runs(tables).rows}
    assert rows["new: not in the run before"] == ["-", "40.0 %"]  # two of five, one image unknown
    assert rows["turns read"] == ["4", "7"]
    assert rows["distinct questions"] == ["1", "2"]
    assert rows["effective number of questions"] == ["1.0", "1.6"]


def test_a_score_and_a_kind_without_values_are_left_out(tmp_path: Path) -> None:
    records = make_records(3)
    for record in records:
        record["turns"][0]["scores"]["clip"] = None
        record["turns"].append(UNUSABLE)
    write_run(tmp_path, records)
    sections = comparisons.describe_scores([read_turns(find(tmp_path).runs[0])], [], "gain")
    names = [section.name for section in sections]
    assert names[0] == "gain" and "clip" not in names and "i2c" in names
    assert [kind.kind for kind in sections[0].kinds] == ["dialogue"]


def test_curves_have_points_for_held_out_images(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"job": "train"}))
    lines = [{"step": step, "loss": 1 / step, "mfu": None} for step in range(1, 21)]
    lines[-1]["held_out_loss"] = 0.5
    (tmp_path / "measurements.json").write_text(json.dumps(lines))
    (figure,) = comparisons.draw_training(find(tmp_path).trainings[0])
    assert figure.legend == [("loss", 0), ("held out loss", 0)]
    assert figure.figure.count("<circle") == 1 and figure.figure.count('class="line') == 1
