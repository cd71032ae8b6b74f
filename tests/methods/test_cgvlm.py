from typing import Any

import pytest

from c3l_ray.methods.cgvlm import CAPTION_INSTRUCTION, find_caption


def detail(answer: str | None, status: str = "ok", kind: str = "detail") -> dict[str, Any]:
    return {"kind": kind, "status": status, "question": "What is seen?", "answer": answer}


@pytest.mark.parametrize(
    ("own", "turns", "expected"),
    [
        ("A dog.", [detail("A cat.")], (CAPTION_INSTRUCTION, "A dog.")),
        (None, [detail("A cat.")], ("What is seen?", "A cat.")),
        (" ", [detail("No", kind="yes_no"), detail("A cat.")], ("What is seen?", "A cat.")),
        (None, [detail("A c", status="truncated"), detail(None)], None),
    ],
)
def test_a_caption_is_the_images_own_or_its_first_detail_turn(
    own: str | None, turns: list[dict[str, Any]], expected: tuple[str, str] | None
) -> None:
    assert find_caption({"caption": own, "turns": turns}) == expected
