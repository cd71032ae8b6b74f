"""What a job's report says to the person at the terminal, side by side so that they look alike."""

import os
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from c3l_ray.chat import OTHER_PROMPT
from c3l_ray.dataset.card import CARD
from c3l_ray.dataset.report import SelectionReport
from c3l_ray.methods.scores import BEST_SCORE, LOWER_IS_BETTER
from c3l_ray.no_score import lacks_scores, make_scoring_command
from c3l_ray.runs.counts import list_counts
from c3l_ray.runs.cures import CURES_OF_IMAGES, CURES_OF_TURNS
from c3l_ray.runs.folder import PARTS, REPORT, SELECTION
from c3l_ray.runs.report import RecordsReport
from c3l_ray.runs.turn_tables import format_table, format_turn, make_printable
from c3l_ray.workflows.c3l_report import C3LReport
from c3l_ray.workflows.training_report import TrainingReport

CONFOUNDED_FROM = 0.5  # a rank correlation with answer length that a user should know of
LOSSES = ("loss", "contrastive", "nll", "pair")
COMPARISONS = ("positive_similarity", "negative_similarity", "margin", "pair_accuracy")
SHOWN_SCORES = ("grounding", "visual_ifd", "i2c", "image_logprob")
"""Scores whose medians are shown: ours, the two of the papers, and plain confidence."""


def summarize_stage(report: RecordsReport | TrainingReport, output: str) -> str:
    """The summary of a stage of C3L."""
    if isinstance(report, RecordsReport):
        return summarize_records(report, output)
    return summarize_training(report, output)


def summarize_records(report: RecordsReport, output: str) -> str:
    """What a finished run made, what failed and why, and where it lies."""
    limit = report.config.get("limit")
    did = f"did the first {limit} images" if report.state == "stopped" else "finished"
    lines = [
        f"{did} in {report.seconds['wall']:.0f} s",
        f"  images   {report.images}: {list_counts(report.status)}",
        f"  turns    {report.turns}: {list_counts(report.turn_status)}",
        *_list_cures_of_turns(report),
        *([f"  tokens   {report.tokens}"] if report.tokens else []),
        *_describe_correction(report),
        *_describe_alternatives(report),
        *_describe_failures(report, output),
        *([f"  faults   of scoring: {list_counts(report.faults)}"] if report.faults else []),
        *(f"           for example {example}" for example in report.fault_examples.values()),
        *(f"  note     {note} ({_count_concerned(note, report)})" for note in report.notes),
        *_describe_length_correlation(report.length_correlation or {}),
        *_describe_scores(report),
        f"  records  {os.path.join(output, 'records')}",
        f"  report   {os.path.join(output, REPORT)}",
        *_advise_selection(report, output),
        *(["  go on    by the same command without --limit"] if report.state == "stopped" else []),
    ]
    return "\n".join(lines)


def _count_concerned(note: str, report: RecordsReport) -> str:
    """How many units a note is of, and scored turns where their numbers depend on it."""
    units, scored = report.notes[note], report.turn_status.get("ok", 0)
    if not note.endswith(OTHER_PROMPT):
        return f"{units} units"
    turns = f"{scored} scored turns"
    # Turns that no instruction asked for have no posed score.
    return f"{units} units, {'up to ' if 'posed_logprob' in note else 'all '}{turns}"


def _list_cures_of_turns(report: RecordsReport) -> list[str]:
    return [
        f"           cure of {status}: {CURES_OF_TURNS[status]}"
        for status in report.turn_status
        if status in CURES_OF_TURNS
    ]


def _describe_failures(report: RecordsReport, output: str) -> list[str]:
    """What failed, with an example and a cure of each reason, and how to list them all."""
    lines = [f"  failed   {list_counts(report.reasons)}"]
    for reason, example in report.failure_examples.items():
        lines.append(f"           for example {make_printable(example)}")
        if reason in CURES_OF_IMAGES:
            lines.append(f"           cure: {CURES_OF_IMAGES[reason]}")
    if report.reasons:
        lines.append(f"           all: python -m jobs.failed {shlex.quote(output)}")
    return lines


def _describe_scores(report: RecordsReport) -> list[str]:
    """Medians by kind of some scores, and the best and the worst turns, each in lines."""
    summary = report.score_summary
    if not summary or not summary["turns"]:
        return []
    scored = report.turn_status.get("ok", 0)
    sample = f", of {summary['turns']} sampled turns" if summary["turns"] < scored else ""
    medians = {
        kind: [of_kind["turns"], *(of_kind[score] for score in SHOWN_SCORES)]
        for kind, of_kind in sorted(summary["medians"].items())
    }
    table = format_table("kind", ("turns", *SHOWN_SCORES), medians, first_width=12)
    lines = ["", f"  medians{sample}", *(f"  {line}" for line in table.splitlines())]
    by = summary["by"]
    direction = " (lower is better)" if by in LOWER_IS_BETTER else ""
    for name in ("best", "worst"):
        if summary[name]:
            lines += ["", f"  {name} turns by {by}{direction}{sample}"]
        for turn in summary[name]:
            facts = f"{turn['kind']}, {by} {turn['scores'][by]:.3f}"
            text = format_turn(turn["image"], facts, turn["question"], turn["answer"])
            lines += [f"  {line}" for line in text.splitlines()]
    return [*lines, ""]


def _advise_selection(report: RecordsReport, output: str) -> list[str]:
    """The command that goes on, as it can be pasted: to score, or to keep the best; or none."""
    if not report.turn_status.get("ok"):
        return []
    if lacks_scores({"config": report.config}):
        return [f"  next     {make_scoring_command(output, {'config': report.config})}"]
    folder, dataset = shlex.quote(output), shlex.quote(f"{output.rstrip('/')}-best")
    return [
        f"  next     python -m jobs.select --input {folder} --output {dataset} "
        f"--top 0.1 --by {BEST_SCORE} --within kind"
    ]


def summarize_selection(report: SelectionReport) -> str:
    """What was selected, from which score on, and where it lies."""
    threshold = ""
    if report.threshold is not None:
        is_lower_better = report.by in LOWER_IS_BETTER and report.within == "dataset"
        direction = "down" if is_lower_better else "up"
        threshold = f", from {report.threshold:.4g} {direction}"
    lines = [
        f"selected {report.turns} of {report.scored_turns} scored turns "
        f"({report.images} images) by {report.by}{threshold}",
        *_describe_exported_images(report),
        *_describe_pairs(report),
        f"  dataset  {report.output}/{PARTS}/part-*.parquet",
        *([] if report.llava == "none" else [f"  LLaVA    {report.output}/llava.json"]),
        f"  card     {report.output}/{CARD}",
        f"  report   {report.output}/{SELECTION}",
    ]
    return "\n".join(lines)


def _describe_exported_images(report: SelectionReport) -> list[str]:
    counts = {
        "written as decoded": report.rewritten_images,
        "left out, since they cannot be decoded here": report.unusable_images,
    }
    fates = [f"{count} {fate}" for fate, count in counts.items() if count]
    lines = [f"  images   {', '.join(fates)}"] if fates else []
    if report.rows_without_image:
        lines.append(
            f"  note     {report.rows_without_image} of {report.samples} rows name their image by "
            "a path, since the run kept none; the card says how to load them"
        )
    return lines


def _describe_pairs(report: SelectionReport) -> list[str]:
    if report.export != "preference":
        return []
    unpaired = list_counts(report.unpaired_turns)
    return [f"  pairs    {list_counts(report.pairs)}; turns without a pair: {unpaired}"]


def summarize_training(report: TrainingReport, output: str) -> str:
    """What was trained, how it went, and where it lies."""
    measurements = report.last_measurements

    def list_values(names: Iterable[str]) -> str:
        return ", ".join(
            f"{name} {measurements[name]:.4g}"
            for name in names
            if measurements.get(name) is not None
        )

    comparisons = list_values(COMPARISONS)
    held_out = (f"held_out_{name}" for name in (*LOSSES, "pair_accuracy", "readable"))
    model = os.path.join(output, "model")
    is_vigc = report.objective == "vigc"
    lines = [
        f"finished in {report.seconds['wall']:.0f} s",
        f"  trained  {report.objective} ({report.tune}) on {report.images} images, "
        f"{report.steps} steps",
        *_describe_mixture(report.mixture),
        *([f"  left out {report.left_out_images} images"] if report.left_out_images else []),
        *(
            [f"  left out turns: {list_counts(report.left_out_turns)}"]
            if report.left_out_turns
            else []
        ),
        *([f"  skipped  {list_counts(report.skipped)}"] if report.skipped else []),
        *(f"  note     {note}" for note in report.notes),
        f"  last     {list_values(LOSSES)}",
        *([f"           {comparisons}"] if comparisons else []),
        f"  held out {list_values(held_out) or 'none'}",
        f"  speed    {list_values(('tokens_per_s', 'seconds_per_step', 'data_wait_share', 'mfu'))}",
        *([] if report.verified_reply is None else [f"  in vLLM  {report.verified_reply!r}"]),
        f"  model    {model}",
        f"  report   {os.path.join(output, REPORT)}",
        f"  next     python -m jobs.generate --model.name {shlex.quote(model)} "
        f"--scorer.name {shlex.quote(report.config['model']['name'])}"
        + (" --method vigc --reply-format text" if is_vigc else "")
        + " --input IMAGES --output FOLDER",
    ]
    return "\n".join(lines)


def summarize_c3l(report: C3LReport, output: str) -> str:
    """What each round wrote, and what was kept of the last."""
    lines = ["", f"{'round':<12}{'turns':>9}{'questions':>11}{'kinds':>7}{'i2c':>9}{'gain':>9}"]
    for name, stage in report.stages.items():
        if name.startswith("round-"):
            turns = stage["turns"]
            means = "".join(
                f"{turns[score]:>9.3f}" if turns[score] is not None else f"{'-':>9}"
                for score in ("i2c", "gain")
            )
            counts = f"{turns['turns']:>9}{turns['questions']:>11}{turns['kinds']:>7}"
            lines.append(f"{name:<12}{counts}{means}")
    selection = report.stages["dataset"]
    dataset = os.path.join(output, "dataset")
    lines += [
        f"\nkept {selection['turns']} of {selection['scored_turns']} scored turns of the last "
        f"round by {selection['by']} ({selection['images']} images)",
        f"  dataset  {dataset}/{PARTS}/part-*.parquet",
        f"  card     {dataset}/{CARD}",
        f"  report   {os.path.join(output, REPORT)}",
    ]
    return "\n".join(lines)


def _describe_correction(report: RecordsReport) -> list[str]:
    """How corrections ended, what they cost and did, and one that changed its answer."""
    if not report.correction_outcomes:
        return []
    tokens = report.correction_tokens
    lines = [
        f"  answers  corrected: {list_counts(report.correction_outcomes)}; "
        f"{tokens['kept']} of {tokens['generated']} tokens kept"
    ]
    effect = report.correction_effect
    if effect is None or not effect["changed"]:
        return lines
    means_before_and_after = "; ".join(
        f"mean {name} {means['drafts']:.3f} before, {means['answers']:.3f} after"
        for name, means in effect["scores"].items()
        if name in ("gain", "visual_ifd") and None not in means.values()
    )
    example = effect["examples"][0]
    return [
        *lines,
        f"           {effect['changed']} of {effect['turns']} changed; {means_before_and_after}",
        f"           question  {example['question']}",
        f"           before    {example['draft']}",
        f"           after     {example['answer']}",
    ]


def _describe_alternatives(report: RecordsReport) -> list[str]:
    """How many more answers were sampled, how many of them differ, and what was done with them."""
    if not report.sampled_questions:
        return []
    lines = [
        f"  answers  {report.sampled_answers} sampled to {report.sampled_questions} questions; "
        f"distinct: {list_counts(report.alternative_status)}",
        f"           {report.differing_questions} questions have answers that differ",
    ]
    if report.replaced_answers:
        lines.append(f"           {report.replaced_answers} turns have a better one in its place")
    return lines


def _describe_length_correlation(correlation: Mapping[str, float | None]) -> list[str]:
    """A note where a score follows the answer's length, so that ranking by it ranks lengths."""
    confounded = [
        f"{name} {value:+.2f}"
        for name, value in correlation.items()
        if value is not None and abs(value) >= CONFOUNDED_FROM
    ]
    if not confounded:
        return []
    scores = ", ".join(confounded)
    return [f"  note     rank correlation with answer length: {scores}; see --within"]


def _describe_mixture(mixture: Mapping[str, Mapping[str, Any]]) -> list[str]:
    sets = (
        f"{name} {one_set['share']:.1%} ({one_set['turns']} turns)"
        for name, one_set in mixture.items()
    )
    return [f"  mixture  {', '.join(sets)}"] if mixture else []
