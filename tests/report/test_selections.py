import json
from pathlib import Path

import pytest

from c3l_ray.dataset.select import select_turns
from c3l_ray.report import comparisons, selections
from c3l_ray.report.turn_table import read_turns
from c3l_ray.select_config import SelectConfig
from tests.examples import EncodeImage
from tests.report.runs import make_records, write_run
from tests.report.test_comparisons import find
from tests.report.test_page import make


@pytest.mark.parametrize("within", ["dataset", "kind"])
def test_what_a_selection_kept_is_told_by_kind(
    tmp_path: Path, within: str, encoded: EncodeImage
) -> None:
    records = make_records(10, image=encoded())
    for record in records[:4]:
        record["turns"][0]["kind"] = "short"
    write_run(tmp_path, records)
    config = SelectConfig(input=str(tmp_path), top=5, by="visual_ifd", within=within)  # type: ignore[arg-type]
    report = select_turns(config)
    found = find(tmp_path)
    (dataset,) = found.datasets_of(found.runs[0])
    kept = selections.describe_selection(dataset, read_turns(found.runs[0]))
    rows = {row[0]: row[1:] for row in kept.table.rows}
    if within == "dataset":
        assert rows["dialogue"] == ["60.0 %", "5", "100.0 %", "83.3 %", "0.167"]
        assert rows["short"] == ["40.0 %", "0", "0.0 %", "0.0 %", "-"]
        assert kept.worst == {"dialogue": pytest.approx(report.threshold)}
    else:
        assert rows["dialogue"] == ["60.0 %", "3", "60.0 %", "50.0 %", "0.125"]
        assert rows["short"] == ["40.0 %", "2", "40.0 %", "50.0 %", "0.333"]
    section, *_ = comparisons.describe_scores([read_turns(found.runs[0])], [kept], "visual_ifd")
    assert section.name == "visual_ifd"
    has_line = {kind.kind: "threshold" in kind.figure for kind in section.kinds}
    assert has_line == {"dialogue": True, "short": within == "kind"}


def test_what_a_selection_left_out_is_told_with_its_reason(tmp_path: Path) -> None:
    write_run(tmp_path, make_records(3))
    flags = {"exclude_benchmark": ["pope"], "drop_near_duplicates": True, "at_least": 0.5}
    counts = {
        "refuted_turns": 1,
        "worse_turns": 2,
        "excluded_images": 3,
        "near_duplicate_images": 4,
        "excluded_turns": 5000,
        "not_compared_images": 6,
        "unusable_images": 7,
        "unpaired_turns": {"unscored": 8},
    }
    selection = {"origin": "o", "by": "gain", "within": "kind", "per": "dataset", **counts, **flags}
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "selection.json").write_text(json.dumps(selection))
    found = find(tmp_path)
    table = read_turns(found.runs[0])
    left_out = selections.describe_selection(found.datasets[0], table).left_out
    assert left_out.rows == [
        ["the image refutes them (gain < 0)", "-", "1"],
        ["they are worse than --at-least", "-", "2"],
        ["a benchmark has the image (pope)", "3", "-"],
        ["the image looks like an earlier one", "4", "-"],
        ["their image is left out for one of these reasons", "-", "5,000"],
        ["the image cannot be decoded", "7", "-"],
        ["no pair: unscored", "-", "8"],
        ["could not be compared, and stay", "6", "-"],
    ]
    assert "near_duplicate" not in make(tmp_path) and "looks like an earlier one" in make(tmp_path)
    plain = {name: value for name, value in selection.items() if name not in flags}
    (tmp_path / "dataset" / "selection.json").write_text(json.dumps(plain))
    left_out = selections.describe_selection(find(tmp_path).datasets[0], table).left_out
    assert [row[0] for row in left_out.rows[:2]] == [
        *("the image refutes them (gain < 0)", "the image cannot be decoded")
    ]


def test_a_random_selection_has_no_worst_score(tmp_path: Path, encoded: EncodeImage) -> None:
    write_run(tmp_path, make_records(10, image=encoded()))
    select_turns(SelectConfig(input=str(tmp_path), top=5, by="random"))
    found = find(tmp_path)
    kept = selections.describe_selection(found.datasets[0], read_turns(found.runs[0]))
    assert kept.worst == {}
    assert kept.table.rows == [["dialogue", "100.0 %", "5", "100.0 %", "50.0 %"]]
