"""The question whether VIC corrects: answers before and after, sentence by sentence."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from c3l_ray.evaluation.corrections import judge_corrections
from c3l_ray.evaluation.judgement import parse_scene
from c3l_ray.methods.c3l import KINDS
from c3l_ray.runs.commit import read_manifests, read_records
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes.truth import TRUE
from tests.evidence import product
from tests.evidence.measures import (
    Measure,
    Row,
    difference_of,
    draw_scenes,
    mark_sides,
    measure_rows,
    pool_rows,
    share_of,
)
from tests.evidence.stages import StageResult
from tests.evidence.worlds import SceneSet, scene_key

QUESTION = "correction"
ARMS = {"sampled": 0.7, "greedy": 0.0}
"""The drafts, and the temperature at which they are written."""
LAST_PLACE = 5


def make_corrections(folder: Path, scenes: SceneSet, temperature: float) -> dict[str, Any]:
    """Runs jobs.generate with correction on the scenes, and judges drafts and answers.

    Raises:
        C3LError: the run cannot go on.
    """
    run = product.generate(folder, scenes, "--correct", "--sampling.temperature", str(temperature))
    return {"corrections": list(read_corrections(run))}


def read_corrections(run: Path) -> Iterator[Row]:
    """The corrections of a run, each with its scene."""
    folder = RunFolder.open(str(run))
    for manifest in read_manifests(folder):
        if not manifest.file:
            continue
        table = read_records(folder, manifest, ["meta", "turns"])
        for number in range(table.num_rows):
            row = table.slice(number, 1)
            scene = parse_scene(row["meta"][0].as_py())
            assert scene is not None, "the run is over scenes"
            for correction in judge_corrections([row]):
                yield {
                    "scene": scene_key(scene),
                    "kind": correction.kind,
                    "draft": list(correction.draft.sentences),
                    "answer": list(correction.answer.sentences),
                }


def summarize_corrections(results: Sequence[StageResult]) -> list[Measure]:
    """By drafts: sentences of descriptions by their place, and whole answers by kind."""
    measures: list[Measure] = []
    for arm in ARMS:
        rows = pool_rows([result for result in results if result.stage.arm == arm], "corrections")
        if rows:
            measures += _summarize_arm(arm, rows)
    return measures


def _summarize_arm(arm: str, corrections: Sequence[Row]) -> Iterator[Measure]:
    clusters = draw_scenes(corrections)
    groups: dict[str, tuple[list[Row], list[Row]]] = {}
    detail = [row for row in corrections if row["kind"] == "detail"]
    for place in (*range(LAST_PLACE), None):
        label = "all sentences" if place is None else f"sentence {place + 1}"
        groups[label] = (
            list_sentences(detail, "draft", place),
            list_sentences(detail, "answer", place),
        )
    for kind in ("all", *KINDS):
        rows = [row for row in corrections if kind in ("all", row["kind"])]
        groups[f"whole answers, {kind}"] = (judge_whole(rows, "draft"), judge_whole(rows, "answer"))
    for label, (drafts, answers) in groups.items():
        if not drafts or not answers:
            continue
        group = f"{arm} drafts, {label}"
        for name, rows in (("draft true", drafts), ("corrected answer true", answers)):
            yield measure_rows(QUESTION, name, group, rows, share_of(is_true), clusters)
        yield measure_rows(
            *(QUESTION, "corrected less draft", group),
            mark_sides(drafts, answers),
            difference_of(share_of(is_true)),
            clusters,
        )


def is_true(row: Row) -> bool:
    return bool(row["is_true"])


def list_sentences(corrections: Sequence[Row], side: str, place: int | None) -> list[Row]:
    """The sentences of one side at a place, or at all places, as rows."""
    return [
        {"scene": row["scene"], "seed": row["seed"], "is_true": truth == TRUE}
        for row in corrections
        for number, truth in enumerate(row[side])
        if place in (None, number)
    ]


def judge_whole(corrections: Sequence[Row], side: str) -> list[Row]:
    """The whole answers of one side as rows; an answer is true where all its sentences are."""
    return [
        {
            "scene": row["scene"],
            "seed": row["seed"],
            "is_true": bool(row[side]) and all(truth == TRUE for truth in row[side]),
        }
        for row in corrections
    ]
