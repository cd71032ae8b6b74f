"""The page: one HTML file that holds its styles, its script, its figures and its images.

Every text that came from data is escaped by jinja2. Beside that the page's own policy lets no
script run but the one whose digest it names, and lets nothing be loaded from anywhere.
"""

import base64
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from c3l_ray import __version__
from c3l_ray.methods.scores import BEST_SCORE, SCORE_NAMES
from c3l_ray.report import comparisons, identities, overview, selections
from c3l_ray.report.benchmark_sections import describe_benchmark
from c3l_ray.report.cards import FailureCard, TurnCard, make_cards, make_failure_card
from c3l_ray.report.gather import Findings
from c3l_ray.report.shown_turns import GROUPS, choose_turns, find_failures
from c3l_ray.report.tables import format_value
from c3l_ray.report.token_tints import load_splitter
from c3l_ray.report.turn_table import MAX_TURNS_READ, TurnTable, read_turns
from c3l_ray.runs.cures import CURES_OF_IMAGES
from c3l_ray.runs.state import now

MAX_CARD_CHARACTERS = 8_000_000
"""Of all cards: with the rest of the page it stays below 12 MB."""
MAX_INSTRUCTIONS = 100


def make_page(
    findings: Findings,
    *,
    title: str,
    by: str | None,
    max_turns: int,
    max_turns_read: int = MAX_TURNS_READ,
) -> str:
    """The report as HTML.

    Args:
        findings: what it is about.
        title: of the page.
        by: the score that ranks turns; None takes that of the latest selection, or grounding.
        max_turns: to show, of all runs together.
        max_turns_read: of each run, for statistics.

    Raises:
        C3LError: a file of records cannot be read.
    """
    tables = [read_turns(run, max_turns_read) for run in findings.runs]
    by = by or _choose_score(findings)
    kept_of_runs = [
        [
            selections.describe_selection(dataset, table)
            for dataset in findings.datasets_of(table.run)
        ]
        for table in tables
    ]
    cards, remarks = _make_all_cards(tables, by, max_turns)
    failures: dict[str, list[FailureCard]] = defaultdict(list)
    for run in findings.runs:
        for failure in find_failures(run):
            failures[failure.reason].append(make_failure_card(failure, run.name))
    script = _read("page.js")
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            version=__version__,
            made=now().replace("T", " ").replace("+00:00", " UTC"),
            by=by,
            title=title,
            findings=findings,
            tiles=overview.make_tiles(findings),
            identity=identities.make_identity_table(findings),
            instructions=[_list_instructions(table) for table in tables],
            images=overview.make_image_table(findings.runs),
            turns=overview.make_turn_table(findings.runs),
            miscounts=overview.find_miscounts(findings.runs),
            reasons=_list_reasons(findings, failures),
            notes=overview.list_notes(findings),
            samples=[_describe_sample(table) for table in tables],
            scores=comparisons.describe_scores(tables, kept_of_runs[-1], by) if tables else [],
            comparison=comparisons.compare_runs(tables),
            correction=overview.make_correction_table(findings.runs),
            kept=[kept for kept_of_run in kept_of_runs for kept in kept_of_run],
            strangers=findings.explain_strangers(),
            benchmark_identity=identities.make_benchmark_table(findings.benchmarks),
            benchmarks=[(one.name, describe_benchmark(one)) for one in findings.benchmarks],
            trainings=identities.make_training_table(findings.trainings),
            curves=[(one.name, comparisons.draw_training(one)) for one in findings.trainings],
            speed=overview.make_speed_table(findings.runs),
            pace=overview.make_pace_table(findings.runs),
            tables_compared=len(tables) > 1,
            groups=GROUPS,
            present_groups={card.group for card in cards},
            cards=cards,
            remarks=remarks,
            style=Markup(_read("page.css")),
            script=Markup(script),
            script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def _choose_score(findings: Findings) -> str:
    """The score of the latest selection that ranked by one, else the default."""
    scores = [str(dataset.selection.get("by")) for dataset in findings.datasets]
    return next((by for by in reversed(scores) if by in SCORE_NAMES), BEST_SCORE)


def _make_all_cards(
    tables: Sequence[TurnTable], by: str, max_turns: int
) -> tuple[list[TurnCard], list[str]]:
    """The cards of all runs by group, and what is to be said of them."""
    cards: list[TurnCard] = []
    remarks: list[str] = []
    num_characters = num_left_out = 0
    for table in reversed(tables):  # the latest first
        split, reason = None, ""
        shown = choose_turns(table, by, max_turns // len(tables))
        if any(one.turn.get("token_gains") for one in shown):
            split, reason = load_splitter(table.run.report)
        if reason:
            remarks.append(f"No answer of {table.run.name} is tinted by its tokens: {reason}.")
        untinted = 0
        for card, one in zip(make_cards(shown, table.run.name, by, split), shown, strict=True):
            num_characters += card.num_characters
            if num_characters > MAX_CARD_CHARACTERS:
                num_left_out += 1
                continue
            untinted += bool(split and one.turn.get("token_gains") and card.tints is None)
            cards.append(card)
        if untinted:
            remarks.append(
                f"{untinted} answers of {table.run.name} are not tinted: they are too long, or "
                "the tokenizer here splits them into another number of tokens than were scored."
            )
    if num_left_out:
        remarks.append(f"{num_left_out} turns are left out to keep the page below 12 MB.")
    order = list(GROUPS)
    return sorted(cards, key=lambda card: order.index(card.group)), remarks


def _list_instructions(table: TurnTable) -> tuple[str, list[tuple[str, str, int]], int]:
    """A run's name, its most frequent instructions with kind and turns, and how many more."""
    counted = [
        (kind, text, count)
        for (kind, text), count in sorted(
            table.instructions.items(), key=lambda item: (item[0][0], -item[1], item[0][1])
        )
        if text
    ]
    return table.run.name, counted[:MAX_INSTRUCTIONS], max(0, len(counted) - MAX_INSTRUCTIONS)


def _list_reasons(
    findings: Findings, failures: dict[str, list[FailureCard]]
) -> list[tuple[str, int, str, list[FailureCard]]]:
    """Each reason for failed images: how many, what helps, and some of them."""
    counts: dict[str, int] = defaultdict(int)
    for run in findings.runs:
        for reason, count in run.counts.reasons.items():
            counts[reason] += count
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [
        (reason, count, CURES_OF_IMAGES.get(reason, ""), failures.get(reason, [])[:8])
        for reason, count in ordered
    ]


def _describe_sample(table: TurnTable) -> str:
    """What of a run its statistics are of, in a sentence."""
    run, read = table.run, table.columns.num_rows
    if not table.is_sample:
        return f"{run.name}: all {read:,} turns were read."
    return (
        f"{run.name}: a sample, {read:,} of {run.counts.turns:,} turns, from "
        f"{len(table.manifests):,} of {len(run.manifests):,} files, every shard in turn. Counts "
        "of images and turns are of the whole run; distributions, medians, ranks and shares are of "
        "the sample, and so are the best and worst turns."
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_read),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"plural": _count_with_noun, "number": format_value}
    return environment


def _count_with_noun(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _read(name: str) -> Any:
    return (resources.files("c3l_ray.report") / name).read_text()
