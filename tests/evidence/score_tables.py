"""The tables on scores: true shares, areas under the curve, and what scores keep."""

from c3l_ray.methods.c3l import KINDS
from tests.evidence import score_stage
from tests.evidence.tables import (
    Found,
    format_table,
    list_differences,
    number,
    percent,
    titled_table,
)
from tests.evidence.worlds import WORLDS

SCORES = score_stage.SCORES
COMPARED_SCORES = tuple(
    score
    for score in SCORES
    if score in ("min_logprob", "posed_logprob", "gain", "visual_ifd", "i2c", "grounding", "clip")
)


def format_score_tables(found: Found) -> list[str]:
    """True shares of the worlds, areas under the curve by world, and what scores keep."""
    worlds = [world for world in WORLDS if ("true", f"{world}, all turns") in found]
    parts = [
        "True turns of the untuned model, in percent:",
        format_table(
            "turns",
            worlds,
            {
                group: [percent(found, "true", f"{world}, {group}") for world in worlds]
                for group in ("all turns", *KINDS)
            },
        ),
    ]
    for title, group, suffix, scores in (
        ("Area under the curve, true against false, all turns:", "all turns", "", SCORES),
        (
            f"The same less that of `{score_stage.RIVAL}`, paired:",
            "all turns",
            f" less {score_stage.RIVAL}",
            COMPARED_SCORES,
        ),
        ("Within a kind (mean of the areas of the five kinds):", "within kind", "", SCORES),
        (
            f"Within a kind, less that of `{score_stage.RIVAL}`, paired:",
            "within kind",
            f" less {score_stage.RIVAL}",
            COMPARED_SCORES,
        ),
        (
            "True turns against those errors that the biased world's table explains:",
            "errors of the prior",
            "",
            COMPARED_SCORES,
        ),
        ("Within one question, answers sampled anew:", "within question", "", SCORES),
    ):
        rows = {
            f"`{score}`": [
                number(found, f"area of {score}{suffix}", f"{world}, {group}") for world in worlds
            ]
            for score in scores
        }
        parts += titled_table(title, "score", worlds, rows)
    for group in ("all turns", "within kind", "errors of the prior"):
        verdicts = (
            f"- {world}: "
            + list_differences(
                found,
                {
                    f"`{score}`": (f"area of {score} less {score_stage.RIVAL}", f"{world}, {group}")
                    for score in SCORES
                },
            )
            for world in worlds
        )
        parts += [
            f"Scores whose area differs from that of `{score_stage.RIVAL}` by more than the "
            f"interval, {group}:",
            "\n".join(verdicts),
        ]
    tops = [f"{top:.0%}" for top in score_stage.TOPS]
    world = "unbiased"
    rows = {
        f"`{score}`": [
            *(percent(found, f"true of top {t} by {score}", f"{world}, all turns") for t in tops),
            percent(found, f"true of top 10% by {score}", f"{world}, within kind"),
        ]
        for score in SCORES
    }
    titles = [*(f"top {top}" for top in tops), "top 10% of each kind"]
    title = f"True turns among those that a score ranks highest, {world}, in percent:"
    parts += titled_table(title, "score", titles, rows)
    group = f"{world}, within question"
    if ("some answer true", group) in found:
        chosen = {
            "a distinct answer at random": "true of a distinct answer at random",
            **{f"the best by `{score}`": f"true of the best by {score}" for score in SCORES},
            "some answer": "some answer true",
        }
        rows = {label: [percent(found, measure, group)] for label, measure in chosen.items()}
        title = "Questions answered truly on unbiased scenes, in percent, by what is taken:"
        parts += titled_table(title, "answer", ["true"], rows)
    return [*parts, "`results.json` has the other worlds and kinds."]
