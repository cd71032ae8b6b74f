from typing import Any, cast

import numpy as np
import pytest

from c3l_ray.methods.labels import LabelRules, PseudoLabels, choose_labels
from c3l_ray.schema import Turn, TurnStatus


def make_turn(
    i2c: float | None, gain: float = 1.0, status: TurnStatus = "ok", kind: str = "short"
) -> Turn:
    scores = {"i2c": i2c, "gain": gain, "visual_ifd": i2c}
    return cast(Turn, {"kind": kind, "status": status, "scores": scores})


UNSCORED = cast(Turn, {"kind": "short", "status": "ok", "scores": None})


@pytest.mark.parametrize(
    ("turns", "rules", "expected"),
    [
        ([make_turn(0.1), make_turn(0.9), make_turn(0.5)], {}, (1, (0, 2))),
        ([make_turn(0.5), make_turn(0.5)], {}, (0, (1,))),  # ties fall to the earlier turn
        ([make_turn(0.1), make_turn(0.9, gain=-1)], {}, (0, (1,))),  # the image refutes the best
        ([make_turn(0.1), make_turn(0.9, gain=-1)], {"require_gain": False}, (1, (0,))),
        ([make_turn(0.1, gain=-1), make_turn(0.9, gain=-1)], {}, None),
        ([make_turn(0.9), make_turn(0.8), make_turn(0.1)], {"margin": 0.2}, (0, (2,))),
        # refuted: far enough
        ([make_turn(0.8), make_turn(0.9, gain=-1)], {"margin": 0.2}, (0, (1,))),
        ([make_turn(0.9), make_turn(None), make_turn(0.1)], {}, (0, (2,))),
        ([make_turn(0.9), make_turn(0.95, status="truncated"), make_turn(0.1)], {}, (0, (2,))),
        # a follow-up is asked after others, and is compared with none
        ([make_turn(0.9, kind="follow_up"), make_turn(0.5), make_turn(0.1)], {}, (1, (2,))),
        ([make_turn(0.9), make_turn(0.5, kind="follow_up")], {}, (0, ())),
        ([make_turn(0.9, kind="follow_up")], {"by": "random"}, None),
        ([make_turn(0.9)], {}, (0, ())),
        ([make_turn(float("nan"))], {}, None),
        ([UNSCORED], {}, None),
        ([], {}, None),
        # a ratio of losses
        ([make_turn(0.9), make_turn(0.1)], {"by": "visual_ifd"}, (1, (0,))),
        (
            [
                make_turn(0.9),
                make_turn(0.5, kind="detail"),
                make_turn(0.1),
                make_turn(0.2, kind="detail"),
            ],
            {"negatives": "kind"},
            (0, (2,)),
        ),
        ([make_turn(0.9), make_turn(0.5, kind="detail")], {"negatives": "kind"}, (0, ())),
    ],
)
def test_the_best_turn_is_the_positive_and_the_others_are_negatives(
    turns: list[Turn], rules: dict[str, Any], expected: tuple[int, tuple[int, ...]] | None
) -> None:
    labels = choose_labels(turns, LabelRules(**rules))
    assert labels == (expected and PseudoLabels(positive=expected[0], negatives=expected[1]))


def test_within_kinds_a_turn_ranks_by_its_percentile() -> None:
    turns = [make_turn(0.3, kind="short"), make_turn(5.0, kind="detail")]
    quantiles = {"short": np.array([0.0, 0.1, 0.2, 0.3]), "detail": np.array([4.0, 5.0, 6.0, 7.0])}
    assert choose_labels(turns, LabelRules()) == PseudoLabels(positive=1, negatives=(0,))
    labels = choose_labels(turns, LabelRules(within="kind"), quantiles=quantiles)
    assert labels == PseudoLabels(positive=0, negatives=(1,))


@pytest.mark.parametrize("gain", [1.0, -1.0])
def test_random_positives_are_spread_whatever_the_image_says(gain: float) -> None:
    turns, rules = [make_turn(1.0), make_turn(2.0, gain), make_turn(3.0)], LabelRules(by="random")
    drawn, drawn_again = (
        [choose_labels(turns, rules, image_id=f"image {i}") for i in range(300)] for _ in range(2)
    )
    assert drawn == drawn_again
    counts = np.bincount([labels.positive for labels in drawn if labels])
    assert all(70 < count < 130 for count in counts)
