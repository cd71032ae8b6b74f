import numpy as np
import pytest

from c3l_ray.methods.labels import PseudoLabels, choose_labels


def turn(i2c: float | None, gain: float = 1.0, status: str = "ok", kind: str = "short") -> dict:
    scores = {"i2c": i2c, "gain": gain, "visual_ifd": i2c}
    return {"kind": kind, "status": status, "scores": scores}


@pytest.mark.parametrize(
    ("turns", "options", "expected"),
    [
        ([turn(0.1), turn(0.9), turn(0.5)], {}, (1, (0, 2))),
        ([turn(0.5), turn(0.5)], {}, (0, (1,))),  # ties fall to the earlier turn
        ([turn(0.1), turn(0.9, gain=-1)], {}, (0, (1,))),  # the image refutes the best
        ([turn(0.1), turn(0.9, gain=-1)], {"guard": False}, (1, (0,))),
        ([turn(0.1, gain=-1), turn(0.9, gain=-1)], {}, None),
        ([turn(0.9), turn(0.8), turn(0.1)], {"margin": 0.2}, (0, (2,))),
        ([turn(0.8), turn(0.9, gain=-1)], {"margin": 0.2}, (0, (1,))),  # refuted: far enough
        ([turn(0.9), turn(None), turn(0.1)], {}, (0, (2,))),
        ([turn(0.9), turn(0.95, status="truncated"), turn(0.1)], {}, (0, (2,))),
        ([turn(0.9)], {}, (0, ())),
        ([turn(float("nan"))], {}, None),
        ([{"kind": "short", "status": "ok", "scores": None}], {}, None),
        ([], {}, None),
        ([turn(0.9), turn(0.1)], {"by": "visual_ifd"}, (1, (0,))),  # a ratio of losses
        (
            [turn(0.9), turn(0.5, kind="detail"), turn(0.1), turn(0.2, kind="detail")],
            {"same_kind": True},
            (0, (2,)),
        ),
        ([turn(0.9), turn(0.5, kind="detail")], {"same_kind": True}, (0, ())),
    ],
)
def test_the_best_turn_is_raised_and_the_others_lowered(
    turns: list[dict], options: dict, expected: tuple[int, tuple[int, ...]] | None
) -> None:
    found = choose_labels(turns, **options)
    assert found == (expected and PseudoLabels(positive=expected[0], negatives=expected[1]))


def test_inside_kinds_a_turn_ranks_by_its_standing() -> None:
    turns = [turn(0.3, kind="short"), turn(5.0, kind="detail")]
    standings = {"short": np.array([0.0, 0.1, 0.2, 0.3]), "detail": np.array([4.0, 5.0, 6.0, 7.0])}
    assert choose_labels(turns) == PseudoLabels(positive=1, negatives=(0,))
    assert choose_labels(turns, standings=standings) == PseudoLabels(positive=0, negatives=(1,))


def test_random_positives_are_spread_and_the_same_each_time() -> None:
    turns = [turn(1.0), turn(2.0), turn(3.0)]
    drawn = [choose_labels(turns, by="random", key=f"image {i}") for i in range(300)]
    assert drawn == [choose_labels(turns, by="random", key=f"image {i}") for i in range(300)]
    counts = np.bincount([found.positive for found in drawn if found])
    assert all(70 < count < 130 for count in counts)
