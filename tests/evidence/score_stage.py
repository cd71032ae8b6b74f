"""The question whether a score finds hallucinated answers, asked of turns about all worlds."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from c3l_ray.evaluation.judgement import parse_scene
from c3l_ray.methods.c3l import KINDS
from c3l_ray.methods.ranking import percentile_among
from c3l_ray.methods.scores import LOWER_IS_BETTER, SCORE_NAMES
from c3l_ray.runs.commit import read_manifests, read_records
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes.draw import Scene
from c3l_ray.scenes.truth import FALSE, TRUE, error_follows_bias, judge_turn
from c3l_ray.schema import Record, Turn
from tests.evidence import product
from tests.evidence.bootstrap import (
    Clusters,
    Floats,
    area_under_curve,
    divide,
    share,
    true_share_of_top,
)
from tests.evidence.measures import (
    Measure,
    Row,
    Statistic,
    draw_scenes,
    measure_rows,
    pool_rows,
    share_of,
)
from tests.evidence.stages import StageResult
from tests.evidence.worlds import WORLDS, SceneSet, scene_key

QUESTION = "scores"
TOPS = (0.05, 0.1, 0.25, 0.5)
SCORES = tuple(name for name in SCORE_NAMES if name != "gain_exp")  # which ranks as gain does
RIVAL = "image_logprob"
"""The strongest simple score, from which the others' areas are subtracted."""


def make_turns(folder: Path, scenes: SceneSet, num_answers: int) -> dict[str, Any]:
    """Runs jobs.generate on the scenes, and judges every turn that is usable.

    Raises:
        C3LError: the run cannot go on.
    """
    flags = ("--answers", str(num_answers)) if num_answers else ()
    run = product.generate(folder, scenes, *flags)
    rows = list(read_judged_turns(run))
    turns = [row for row in rows if row is not None]
    return {"turns": turns, "num_unusable": len(rows) - len(turns)}


def read_judged_turns(run: Path) -> Iterator[Row | None]:
    """The turns of a run, judged; None for one that is not usable."""
    folder = RunFolder.open(str(run))
    for manifest in read_manifests(folder):
        if not manifest.file:
            continue
        table = read_records(folder, manifest, ["meta", "turns"])
        for record in cast(list[Record], table.to_pylist()):
            scene = parse_scene(record["meta"])
            assert scene is not None, "the run is over scenes"
            for turn in record["turns"]:
                if turn["status"] != "ok":
                    yield None
                    continue
                question, answer = turn["question"], turn["answer"]
                truth = judge_turn(scene, question, answer)
                yield {
                    "scene": scene_key(scene),
                    "world": scene.world,
                    "kind": turn["kind"],
                    "truth": truth,
                    "is_prior": truth == FALSE and error_follows_bias(scene, question, answer),
                    "scores": _round_scores(turn["scores"]),
                    "answers": _judge_answers(scene, turn) if turn["alternatives"] else [],
                }


def _judge_answers(scene: Scene, turn: Turn) -> list[Row]:
    """The distinct answers to a turn's question that are usable, its own first, judged."""
    answers = {turn["answer"]: turn["scores"]}
    for alternative in turn["alternatives"] or []:
        if alternative["status"] == "ok":
            answers.setdefault(alternative["answer"], alternative["scores"])
    return [
        {
            "truth": judge_turn(scene, turn["question"], answer),
            "scores": _round_scores(scores),
        }
        for answer, scores in answers.items()
    ]


def _round_scores(scores: Any) -> dict[str, float]:
    return {
        name: float(f"{value:.6g}") for name, value in (scores or {}).items() if value is not None
    }


def summarize_scores(results: Sequence[StageResult]) -> list[Measure]:
    """The measures of all worlds, and inside one question where answers were sampled."""
    turns = pool_rows(results, "turns")
    measures: list[Measure] = []
    for world in WORLDS:
        of_world = [row for row in turns if row["world"] == world]
        if of_world:
            measures += _summarize_world(world, of_world)
    return measures


def _summarize_world(world: str, turns: Sequence[Row]) -> Iterator[Measure]:
    clusters = draw_scenes(turns)

    def measure(name: str, group: str, rows: Sequence[Row], statistic: Statistic) -> Measure:
        return measure_rows(QUESTION, name, f"{world}, {group}", rows, statistic, clusters)

    yield measure("true", "all turns", turns, share_of(lambda row: row["truth"] == TRUE))
    for kind in KINDS:
        of_kind = [row for row in turns if row["kind"] == kind]
        yield measure("true", kind, of_kind, share_of(lambda row: row["truth"] == TRUE))
    judged = [row for row in turns if row["truth"] in (TRUE, FALSE)]
    of_prior = [row for row in judged if row["truth"] == TRUE or row["is_prior"]]
    for score in SCORES:
        if not any(score in row["scores"] for row in judged):
            continue
        for group, rows in (("all turns", judged), ("errors of the prior", of_prior)):
            yield measure(f"area of {score}", group, having(rows, score), area_of(score))
            if score != RIVAL:
                both = having(having(rows, score), RIVAL)
                yield measure(
                    f"area of {score} less {RIVAL}", group, both, less_rival(area_of, score)
                )
        scored = having(judged, score)
        yield measure(f"area of {score}", "within kind", scored, area_within_kinds(score))
        if score != RIVAL:
            yield measure(
                f"area of {score} less {RIVAL}",
                "within kind",
                having(scored, RIVAL),
                less_rival(area_within_kinds, score),
            )
        if world == "unbiased":
            for kind in KINDS:
                of_kind = [row for row in scored if row["kind"] == kind]
                yield measure(f"area of {score}", kind, of_kind, area_of(score))
        scored = having(turns, score)
        for top in TOPS:
            yield measure(
                f"true of top {top:.0%} by {score}", "all turns", scored, top_of(score, top)
            )
        ranked = rank_within_kinds(scored, score)
        yield measure(f"true of top 10% by {score}", "within kind", ranked, top_of("rank", 0.1))
    yield from _summarize_answers(world, turns, clusters)


def _summarize_answers(world: str, turns: Sequence[Row], clusters: Clusters) -> Iterator[Measure]:
    """How scores order the true and the false answers to one question."""
    asked = [row for row in turns if len(row["answers"]) > 1]
    if not asked:
        return

    def measure(name: str, rows: Sequence[Row], statistic: Statistic) -> Measure:
        group = f"{world}, within question"
        return measure_rows(QUESTION, name, group, rows, statistic, clusters)

    yield measure("true of a distinct answer at random", asked, mean_of(_share_true))
    yield measure("some answer true", asked, mean_of(lambda row: _share_true(row) > 0))
    for score in SCORES:
        scored = [row for row in asked if all(score in a["scores"] for a in row["answers"])]
        if not scored:
            continue
        yield measure(f"area of {score}", scored, area_within_questions(score))
        yield measure(f"true of the best by {score}", scored, mean_of(_truth_of_best(score)))


def having(rows: Sequence[Row], score: str) -> list[Row]:
    return [row for row in rows if score in row["scores"]]


def value_of(row: Row, score: str) -> float:
    """The score of a turn or an answer, higher being better."""
    value = float(row["scores"][score])
    return -value if score in LOWER_IS_BETTER else value


def area_of(score: str) -> Statistic:
    return lambda weights, rows: area_under_curve(
        weights, [value_of(row, score) for row in rows], [row["truth"] == TRUE for row in rows]
    )


def area_within_kinds(score: str) -> Statistic:
    """The mean of the areas of the five kinds."""

    def statistic(weights: Floats, rows: Sequence[Row]) -> Floats:
        areas = []
        for kind in KINDS:
            places = [place for place, row in enumerate(rows) if row["kind"] == kind]
            areas.append(area_of(score)(weights[:, places], [rows[place] for place in places]))
        return np.mean(areas, axis=0)

    return statistic


def less_rival(area: Callable[[str], Statistic], score: str) -> Statistic:
    return lambda weights, rows: area(score)(weights, rows) - area(RIVAL)(weights, rows)


def top_of(score: str, top: float) -> Statistic:
    return lambda weights, rows: true_share_of_top(
        weights, [value_of(row, score) for row in rows], [row["truth"] == TRUE for row in rows], top
    )


def rank_within_kinds(rows: Sequence[Row], score: str) -> list[Row]:
    """The rows with their percentile rank among those of their kind as the score `rank`."""
    of_kind = {
        kind: np.sort([value_of(row, score) for row in rows if row["kind"] == kind])
        for kind in {row["kind"] for row in rows}
    }
    return [
        {**row, "scores": {"rank": float(percentile_among(value, of_kind[row["kind"]]))}}
        for row, value in ((row, value_of(row, score)) for row in rows)
    ]


def area_within_questions(score: str) -> Statistic:
    """The share of a question's pairs of a true and a false answer that the score orders."""

    def statistic(weights: Floats, rows: Sequence[Row]) -> Floats:
        wins, pairs = np.array([_count_wins(row, score) for row in rows], dtype=float).T
        return divide(weights @ wins, weights @ pairs)

    return statistic


def mean_of(value: Callable[[Row], float]) -> Statistic:
    return lambda weights, rows: share(weights, np.array([float(value(row)) for row in rows]))


def _count_wins(row: Row, score: str) -> tuple[float, int]:
    """How many pairs of a true and a false answer the score orders, ties half, and of how many."""
    sides: dict[str, list[float]] = {TRUE: [], FALSE: []}
    for answer in row["answers"]:
        if answer["truth"] in sides:
            sides[answer["truth"]].append(value_of(answer, score))
    wins = sum((good > bad) + (good == bad) / 2 for good in sides[TRUE] for bad in sides[FALSE])
    return wins, len(sides[TRUE]) * len(sides[FALSE])


def _share_true(row: Row) -> float:
    """The share of the distinct answers to a question that are true."""
    truths = [answer["truth"] == TRUE for answer in row["answers"]]
    return sum(truths) / len(truths)


def _truth_of_best(score: str) -> Callable[[Row], float]:
    """Whether the best answer is true; of several that tie, the share of true ones."""

    def truth(row: Row) -> float:
        best = max(value_of(answer, score) for answer in row["answers"])
        truths = [a["truth"] == TRUE for a in row["answers"] if value_of(a, score) == best]
        return sum(truths) / len(truths)

    return truth
