"""How scores tell true turns about scenes from false ones, and from turns about photographs."""

import statistics
from collections.abc import Sequence

from c3l_ray.evaluation.judgement import JudgedTurn
from c3l_ray.methods.scores import LOWER_IS_BETTER, SCORE_NAMES
from c3l_ray.runs.turn_tables import format_table, format_turn, split_extremes
from c3l_ray.scenes.truth import FALSE, TRUE, Truth

GROUPS: dict[str, Truth | None] = {
    "scenes, true": TRUE,
    "scenes, false": FALSE,
    "photographs": None,
}


def format_medians(turns: Sequence[JudgedTurn], run: str) -> str:
    """The median of each score over true turns, false turns, and turns about photographs.

    Args:
        turns: of a run, each with every score.
        run: its name.
    """
    rows: dict[str, list[float | None]] = {}
    for score in SCORE_NAMES:
        values_by_group = (
            [_score_of(turn, score) for turn in turns if turn.truth == truth]
            for truth in GROUPS.values()
        )
        rows[score] = [statistics.median(values) if values else None for values in values_by_group]
    return format_table(f"median of {run}", GROUPS, rows)


def format_extremes(turns: Sequence[JudgedTurn], by: str) -> str:
    """The best and the worst turns by a score, each with its image, question and answer.

    Args:
        turns: each with every score.
        by: the score.
    """
    ranked = sorted(turns, key=lambda turn: _score_of(turn, by), reverse=by not in LOWER_IS_BETTER)
    return "\n\n".join(
        "\n".join(
            [f"three {name} turns by {by}", *(_format_judged(turn, by) for turn in extreme_turns)]
        )
        for name, extreme_turns in split_extremes(ranked).items()
    )


def _format_judged(judged: JudgedTurn, by: str) -> str:
    turn = judged.turn
    scores = f"{by} {_score_of(judged, by):.3f}, i2c {_score_of(judged, 'i2c'):.3f}"
    facts = f"{turn['kind']}, {judged.truth or 'photograph'}, {scores}"
    return format_turn(judged.image, facts, turn.get("question"), turn.get("answer"))


def _score_of(turn: JudgedTurn, name: str) -> float:
    score = turn.score(name)
    assert score is not None, f"{turn.image}: no {name}"
    return score
