import pytest

from c3l_ray.methods.cgvlm import CAPTION_INSTRUCTION, find_caption
from c3l_ray.schema import Turn, TurnStatus

QUESTION = "What is seen?"


def make_turn(answer: str | None, status: TurnStatus = "ok", kind: str = "detail") -> Turn:
    return {
        "kind": kind,
        "instruction": "",
        "status": status,
        "question": QUESTION,
        "answer": answer,
    }


@pytest.mark.parametrize(
    ("caption", "turns", "expected"),
    [
        ("A dog.", [make_turn("A cat.")], (CAPTION_INSTRUCTION, "A dog.")),
        (None, [make_turn("A cat.")], (QUESTION, "A cat.")),
        (" ", [make_turn("No", kind="yes_no"), make_turn("A cat.")], (QUESTION, "A cat.")),
        (None, [make_turn("A c", status="truncated"), make_turn(None)], None),
    ],
)
def test_a_caption_is_the_images_own_or_its_first_detail_turn(
    caption: str | None, turns: list[Turn], expected: tuple[str, str] | None
) -> None:
    assert find_caption(caption, turns) == expected


@pytest.mark.parametrize(
    ("caption", "turns", "expected"),
    [
        (None, [make_turn("A dog.", kind="given")], (QUESTION, "A dog.")),
        ("A cat.", [make_turn("A dog.", kind="given")], (CAPTION_INSTRUCTION, "A cat.")),
        (None, [make_turn("Yes", kind="given"), make_turn("No", kind="follow_up")], None),
        (None, [make_turn("", "empty", kind="given")], None),
        (None, [make_turn("A dog.", kind="short")], None),
        (
            None,
            [{**make_turn("A dog.", kind="given"), "question": ""}],
            (CAPTION_INSTRUCTION, "A dog."),
        ),
    ],
)
def test_the_only_turn_of_a_sample_made_elsewhere_may_be_a_caption(
    caption: str | None, turns: list[Turn], expected: tuple[str, str] | None
) -> None:
    assert find_caption(caption, turns, take_given=True) == expected
    assert find_caption(None, turns) is None
