from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from c3l_ray.data.commit import Output
from c3l_ray.errors import Refused
from c3l_ray.evaluation.correction import Verdicts, main, report, verdicts
from c3l_ray.methods.sentences import sentences
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.language import describe
from c3l_ray.schema import RECORDS, conform
from tests.test_schema import RECORD

SCENE = draw_scene(3)
OTHER = next(
    other
    for other in map(draw_scene, range(4, 100))
    if not set(sentences(describe(other))) & set(sentences(describe(SCENE)))
)
CORRECTION = {"ended": "complete", "requests": 1, "tokens": 1, "kept_tokens": 1}


def turn(**fields: Any) -> dict[str, Any]:
    asked = {"kind": "detail", "question": "What can be seen in the picture?"}
    return {**RECORD["turns"][0], **asked, "correction": CORRECTION, **fields}


def table(*turns: dict[str, Any], meta: str | None = None) -> pa.Table:
    record = {**RECORD, "meta": meta or SCENE.to_json(), "turns": turns}
    return conform({name: [value] for name, value in record.items()}, RECORDS)


def test_each_sentence_is_judged_before_and_after() -> None:
    true, false = sentences(describe(SCENE)), sentences(describe(OTHER))
    draft = " ".join([true[0], false[0], "It is lovely."])
    (found,) = verdicts([table(turn(draft=draft, answer=describe(SCENE)))])
    assert found.draft == ("true", "false", "unknown")
    assert found.answer == ("true",) * len(true)


def test_other_turns_and_other_images_are_left_out() -> None:
    true = describe(SCENE)
    turns = [
        turn(draft=true, answer=true),
        turn(draft=None, answer=true, correction=None),
        turn(draft=true, answer=true, kind="dialogue"),
    ]
    assert len(list(verdicts([table(*turns)]))) == 1
    assert not list(verdicts([table(turn(draft=true, answer=true), meta="{}")]))


def test_the_report_counts_by_place_and_by_answer() -> None:
    found = [
        Verdicts(draft=("true", "false"), answer=("true", "true", "true")),
        Verdicts(draft=("true", "true"), answer=("true", "unknown")),
        Verdicts(draft=("true",), answer=("true",)),
    ]
    lines = [line.split() for line in report(found).splitlines()]
    assert lines[1] == ["1", "3", "100.0%", "3", "100.0%"]
    assert lines[2] == ["2", "2", "50.0%", "2", "50.0%"]
    assert lines[3] == ["3", "0", "-", "1", "100.0%"]
    assert lines[4] == ["all", "5", "80.0%", "6", "83.3%"]
    assert "2 of 3 before, 2 after; 1 became true, 1 no longer are" in report(found)


def test_a_run_with_nothing_to_report_is_refused(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "run"))
    with pytest.raises(Refused, match="no corrected detail answer"):
        main(output.path)
