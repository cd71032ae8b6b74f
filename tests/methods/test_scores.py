from typing import get_args

from c3l_ray.methods.scores import LOWER_IS_BETTER, SCORE_NAMES, SCORES, RankedBy
from c3l_ray.schema import Scores


def test_turns_are_ranked_by_every_score_or_at_random() -> None:
    assert get_args(RankedBy) == (*SCORE_NAMES, "random")


def test_a_turn_has_every_score() -> None:
    assert tuple(Scores.__annotations__) == SCORE_NAMES
    assert len(set(SCORE_NAMES)) == len(SCORES)


def test_every_score_says_what_it_is_and_where_it_comes_from() -> None:
    for score in SCORES:
        for text in (score.name, score.definition, score.caveat, score.source):
            assert text and text == text.strip()


def test_the_ratio_of_losses_alone_is_better_where_it_is_lower() -> None:
    assert {"visual_ifd"} == LOWER_IS_BETTER
