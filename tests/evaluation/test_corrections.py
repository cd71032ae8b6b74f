from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from c3l_ray.runs.folder import Output
from c3l_ray.errors import PreflightError
from c3l_ray.evaluation.corrections import Verdicts, by_place, kept, main, verdicts, whole
from c3l_ray.methods.sentences import split_sentences
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.language import describe
from c3l_ray.schema import RECORDS, conform
from tests.test_schema import RECORD

SCENE = draw_scene(3)
OTHER = next(
    other
    for other in map(draw_scene, range(4, 100))
    if not set(split_sentences(describe(other))) & set(split_sentences(describe(SCENE)))
)
CORRECTION = {"ended": "complete", "requests": 1, "tokens": 1, "kept_tokens": 1}


def turn(**fields: Any) -> dict[str, Any]:
    asked = {"kind": "detail", "question": "What can be seen in the picture?"}
    return {**RECORD["turns"][0], **asked, "correction": CORRECTION, **fields}


def table(*turns: dict[str, Any], meta: str | None = None) -> pa.Table:
    record = {**RECORD, "meta": meta or SCENE.to_json(), "turns": turns}
    return conform({name: [value] for name, value in record.items()}, RECORDS)


def test_each_sentence_is_judged_before_and_after() -> None:
    true, false = split_sentences(describe(SCENE)), split_sentences(describe(OTHER))
    draft = " ".join([true[0], false[0], "It is lovely."])
    (found,) = verdicts([table(turn(draft=draft, answer=describe(SCENE)))])
    assert found.draft == ("true", "false", "unknown")
    assert found.answer == ("true",) * len(true)


def test_turns_that_were_not_corrected_and_other_images_are_left_out() -> None:
    true = describe(SCENE)
    turns = [
        turn(draft=true, answer=true),
        turn(draft=None, answer=true, correction=None),
    ]
    assert len(list(verdicts([table(*turns)]))) == 1
    assert not list(verdicts([table(turn(draft=true, answer=true), meta="{}")]))


def said(draft: tuple[str, ...], answer: tuple[str, ...], **fields: Any) -> Verdicts:
    given = {"kind": "detail", "draft_scores": {}, "answer_scores": {}}
    return Verdicts(draft=draft, answer=answer, **{**given, **fields})


def test_sentences_are_counted_by_place_and_answers_as_a_whole() -> None:
    found = [
        said(("true", "false"), ("true", "true", "true")),
        said(("true", "true"), ("true", "unknown")),
        said(("true",), ("true",)),
        said(("false",), ("true",), kind="dialogue"),
    ]
    lines = [line.split() for line in by_place(found).splitlines()]
    assert lines[1] == ["1", "3", "100.0%", "3", "100.0%"]
    assert lines[2] == ["2", "2", "50.0%", "2", "50.0%"]
    assert lines[3] == ["3", "0", "-", "1", "100.0%"]
    assert lines[4] == ["all", "5", "80.0%", "6", "83.3%"]
    lines = [line.split() for line in whole(found).splitlines()]
    assert lines[1] == ["detail", "3", "66.7%", "3", "66.7%", "1", "1"]
    assert lines[2] == ["dialogue", "1", "0.0%", "1", "100.0%", "1", "0"]
    assert lines[3] == ["all", "4", "50.0%", "4", "75.0%", "2", "1"]


def test_each_side_is_ranked_by_its_own_scores() -> None:
    found = [
        said(
            ("true" if place == 3 else "false",),
            ("true" if place == 7 else "false",),
            draft_scores={"gain": float(place == 3), "visual_ifd": float(place)},
            answer_scores={"gain": float(place == 2), "visual_ifd": -float(place == 7)},
        )
        for place in range(10)
    ]
    lines = {line.split()[0]: line.split()[1:] for line in kept(found).splitlines()}
    assert lines["gain"] == ["1", "100.0%", "1", "0.0%"]
    assert lines["visual_ifd"] == ["1", "0.0%", "1", "100.0%"]  # the lowest is the best
    assert lines["i2c"] == ["0", "-", "0", "-"]


def test_a_run_with_nothing_to_report_is_refused(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "run"))
    with pytest.raises(PreflightError, match="no corrected answer"):
        main(output.path)
