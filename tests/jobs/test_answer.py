"""More answers to questions that are there, through the job as a user starts it."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from c3l_ray.methods import c3l
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.render import render_scene
from tests.jobs.commands import check_refusal, generate_flags, read_records, read_report, run_job

INSTRUCTION = c3l.format_instruction(c3l.INSTRUCTIONS["short"][0])
TURN = {"kind": "given", "instruction": "", "status": "ok"}
ROWS: list[list[dict[str, Any]]] = [
    [
        {
            **TURN,
            "kind": "short",
            "instruction": INSTRUCTION,
            "question": "How many things are there?",
        },
        {**TURN, "question": "What colour is the circle?"},
        {**TURN, "kind": "follow_up", "question": "Is there a blue star?"},
    ],
    [{**TURN, "question": "Is there a circle?", "status": "duplicate"}, {**TURN, "question": None}],
]


def write_turns(path: Path) -> None:
    """Two images, the second without a usable turn; every answer is one that no model writes."""
    images = []
    (path.parent / "images").mkdir()
    for number in range(len(ROWS)):
        file = path.parent / "images" / f"{number}.png"
        render_scene(draw_scene(number)).save(file)
        images.append(file.read_bytes())
    turns = [[{**turn, "answer": "A zebra."} for turn in row] for row in ROWS]
    pq.write_table(pa.table({"image": images, "turns": turns}), path)


def test_each_usable_question_gets_answers_and_all_else_stays(tmp_path: Path) -> None:
    write_turns(tmp_path / "turns.parquet")
    more = ("--answers", "3", "--max-failed-share", "0.5")
    done = run_job("answer", *generate_flags(tmp_path / "turns.parquet", tmp_path / "run", *more))
    assert done.returncode == 0, done.stderr
    answered, unusable = read_records(tmp_path / "run")
    for turn, given in zip(answered["turns"], ROWS[0], strict=True):
        assert {name: turn[name] for name in given} == given
        assert (turn["answer"], turn["draft"]) == ("A zebra.", None) and turn["scores"]
        alternatives = turn["alternatives"]
        assert sum(other["num_samples"] for other in alternatives) == 3
        assert any(other["status"] == "ok" and other["answer"] for other in alternatives)
        assert turn["num_tokens"] >= 3
    assert all(turn["alternatives"] is None for turn in unusable["turns"])
    report = read_report(tmp_path / "run")
    assert report["job"] == "answer" and report["identity"]["answers"]["num"] == 3
    assert (report["sampled_questions"], report["sampled_answers"]) == (3, 9)
    assert report["differing_questions"] == 3  # nobody answers "A zebra."
    assert report["reasons"] == {"no_turn": 1} and report["tokens"] > 9
    assert "9 sampled to 3 questions" in done.stdout
    images = run_job("answer", *generate_flags(tmp_path / "images", tmp_path / "other"))
    check_refusal(images, "of images holds no turns")
