"""How scores tell true turns about scenes from false ones, and from turns about photographs."""

import statistics
from collections.abc import Sequence

from c3l_ray.evaluation.judgement import JudgedTurn
from c3l_ray.methods.scores import LOWER_IS_BETTER, SCORE_NAMES
from c3l_ray.scenes.truth import FALSE, TRUE, Truth

GROUPS: dict[str, Truth | None] = {
    "scenes, true": TRUE,
    "scenes, false": FALSE,
    "photographs": None,
}
NUM_EXTREMES = 3


def format_medians(turns: Sequence[JudgedTurn], run: str) -> str:
    """The median of each score over true turns, false turns, and turns about photographs.

    Args:
        turns: of a run, each with every score.
        run: its name.
    """
    lines = [f"{f'median of {run}':<24}" + "".join(f"{name:>16}" for name in GROUPS)]
    for score in SCORE_NAMES:
        cells = ""
        for truth in GROUPS.values():
            values = [_score_of(turn, score) for turn in turns if turn.truth == truth]
            cells += f"{statistics.median(values):>16.3f}" if values else f"{'-':>16}"
        lines.append(f"{score:<24}{cells}")
    return "\n".join(lines)


def format_extremes(turns: Sequence[JudgedTurn], by: str) -> str:
    """The best and the worst turns by a score, each with its image, question and answer.

    Args:
        turns: each with every score.
        by: the score.
    """
    ranked = sorted(turns, key=lambda turn: _score_of(turn, by), reverse=by not in LOWER_IS_BETTER)
    extremes = {"best": ranked[:NUM_EXTREMES], "worst": ranked[-NUM_EXTREMES:]}
    return "\n\n".join(
        "\n".join(
            [f"three {name} turns by {by}", *(_format_turn(turn, by) for turn in extreme_turns)]
        )
        for name, extreme_turns in extremes.items()
    )


def _format_turn(judged: JudgedTurn, by: str) -> str:
    turn = judged.turn
    scores = f"{by} {_score_of(judged, by):.3f}, i2c {_score_of(judged, 'i2c'):.3f}"
    return (
        f"  {judged.image} ({turn['kind']}, {judged.truth or 'photograph'}, {scores})\n"
        f"    Q {turn['question']}\n"
        f"    A {turn['answer']}"
    )


def _score_of(turn: JudgedTurn, name: str) -> float:
    score = turn.score(name)
    assert score is not None, f"{turn.image}: no {name}"
    return score
