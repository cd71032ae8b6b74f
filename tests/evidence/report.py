"""The page and the file of results, made from the stages that are done."""

import json
from collections.abc import Sequence
from pathlib import Path

from tests.evidence.alignment_stage import summarize_alignment
from tests.evidence.arm_tables import (
    format_alignment_tables,
    format_correction_tables,
    format_student_tables,
    format_tuning_tables,
)
from tests.evidence.chart import draw_intervals
from tests.evidence.correction_stage import summarize_corrections
from tests.evidence.measures import Measure
from tests.evidence.plan import QUESTIONS
from tests.evidence.score_stage import summarize_scores
from tests.evidence.score_tables import format_score_tables
from tests.evidence.stages import Stage, StageResult, Workplace
from tests.evidence.student_stage import summarize_students
from tests.evidence.tables import Found, format_table, index_measures
from tests.evidence.tuning_measures import summarize_tuning
from tests.evidence.tuning_stage import ARMS, UNTUNED
from tests.evidence.worlds import DESCRIPTIONS

SUMMARIES = {
    "scores": (summarize_scores, format_score_tables),
    "tuning": (summarize_tuning, format_tuning_tables),
    "correction": (summarize_corrections, format_correction_tables),
    "alignment": (summarize_alignment, format_alignment_tables),
    "students": (summarize_students, format_student_tables),
}
INTRODUCTION = """# Evidence

`make evidence` measures the claims of this project in the [world of
scenes](../../c3l_ray/scenes/README.md), and writes this page, its charts and `results.json`. The
truth of a turn comes from its scene, never from a model. All numbers are of a tiny LLaVA that knows
coloured shapes; none is of photographs or of a large model.

```
make evidence
python -m tests.evidence --only scores --seeds 0
python -m tests.evidence --scale small --output runs/evidence-small
```

A question is answered by arms: ways to score, tune or select that are measured alike. A repetition
(`--seeds`) of an arm has scenes, sampling and training of its own. A number in brackets is the 95 %
interval of a bootstrap that draws whole scenes of all repetitions; of a difference, the same scenes
on both sides. It does not hold what another training of the same arm would change: compare the
repetitions for that. Of the many intervals on this page one in twenty misses by chance. An arm with
fewer repetitions than the untuned model is compared with it on its own; its other columns are not.
A turn whose truth is unknown counts as not true, as one that cannot be read or repeats another
does, and takes no part in an area under the curve. Draws in which an area is not defined, since no
turn is false, are left out of its interval. An interrupted command goes on where it was: run it
again. Results of other settings, or of a version that computes otherwise, are made anew."""


def write_report(
    workplace: Workplace, stages: Sequence[Stage], failures: dict[str, str], folder: Path
) -> list[Stage]:
    """Writes README.md, results.json and the charts, and returns the stages that are missing.

    Raises:
        C3LError: the result of a stage cannot be read.
    """
    results = {stage.name: workplace.load(stage) for stage in stages}
    done = [result for result in results.values() if result is not None]
    missing = [stage for stage in stages if results[stage.name] is None]
    sections = [INTRODUCTION, _describe_worlds()]
    measures: list[Measure] = []
    charts: dict[str, str] = {}
    for question, title in QUESTIONS.items():
        of_question = [result for result in done if result.stage.question == question]
        sections.append(f"## {title}")
        if question not in SUMMARIES or not of_question:
            sections.append("Not measured yet; see the stages below.")
            continue
        summarize, format_tables = SUMMARIES[question]
        found_measures = [one for one in summarize(of_question) if one.is_defined]
        if not found_measures:
            sections.append("Not measured yet; see the stages below.")
            continue
        measures += found_measures
        found = index_measures(found_measures)
        for name, chart in draw_charts(question, found).items():
            charts[name] = chart
            sections.append(f"![{name.removesuffix('.svg')}]({name})")
        sections += format_tables(found)
    sections += ["## Stages", *_describe_stages(done, missing, failures)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text("\n\n".join(sections) + "\n")
    (folder / "results.json").write_text(format_results(measures))
    for name, chart in charts.items():
        (folder / name).write_text(chart)
    return missing


def format_results(measures: Sequence[Measure]) -> str:
    """The measures as a JSON list, one to a line so that two versions can be compared."""
    lines = ",\n".join(json.dumps(measure.to_json()) for measure in measures)
    return f"[\n{lines}\n]\n"


def draw_charts(question: str, found: Found) -> dict[str, str]:
    """The charts of a question, by the names of their files."""
    match question:
        case "scores":
            title, reference = "Area under the curve, unbiased scenes, all turns", 0.5
            chosen = {
                measure.removeprefix("area of "): one.interval
                for (measure, group), one in found.items()
                if group == "unbiased, all turns"
                and measure.startswith("area of ")
                and " less " not in measure
            }
        case "tuning":
            title, reference = "Fixed questions true at T 0.7, less none", 0.0
            group = "unbiased, fixed questions, T 0.7"
            chosen = {
                arm.name: found[f"true, {arm.name} less {UNTUNED}", group].interval
                for arm in ARMS
                if (f"true, {arm.name} less {UNTUNED}", group) in found
            }
        case _:
            return {}
    if not chosen:
        return {}
    return {f"{question}.svg": draw_intervals(title, chosen, reference=reference)}


def _describe_worlds() -> str:
    return "\n".join(f"- `{name}`: {text}" for name, text in DESCRIPTIONS.items())


def _describe_stages(
    done: Sequence[StageResult], missing: Sequence[Stage], failures: dict[str, str]
) -> list[str]:
    """What was run, at which commit and in how many seconds, and what was not, and why."""
    by_arm: dict[str, list[StageResult]] = {}
    for result in done:
        by_arm.setdefault(f"{result.stage.question}, {result.stage.arm}", []).append(result)
    rows = {
        label: [
            ", ".join(str(result.stage.seed) for result in results),
            ", ".join(f"{result.seconds:.0f}" for result in results),
            f"{results[0].stage.budget_s:.0f}",
            ", ".join(dict.fromkeys(result.commit for result in results)),
        ]
        for label, results in by_arm.items()
    }
    total = sum(result.seconds for result in done)
    parts = [
        f"Done, {total:.0f} s in all; the budget of a stage is for two free cores:",
        format_table("stage", ["seeds", "s", "budget, s", "commits"], rows),
    ]
    if missing:
        reasons: dict[str, list[str]] = {}
        for stage in missing:
            reason = failures.get(stage.name, "not run yet")
            key = f"{stage.question}, {stage.arm}"
            seeds = reasons.setdefault(f"{key} | {reason.splitlines()[0]}", [])
            seeds.append(str(stage.seed))
        lines = [f"| {key} | {', '.join(seeds)} |" for key, seeds in reasons.items()]
        parts += [
            "**Missing:**",
            "\n".join(["| stage | why | seeds |", "| --- | --- | --- |", *lines]),
        ]
    return parts
