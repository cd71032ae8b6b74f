from hypothesis import given
from hypothesis import strategies as st

from c3l_ray.report.text_diffs import TextPart, compare_texts


def test_words_that_differ_are_marked_and_others_are_not() -> None:
    assert compare_texts("The circle is round.", "The circle is red.") == [
        TextPart("same", "The circle is "),
        TextPart("removed", "round"),
        TextPart("added", "red"),
        TextPart("same", "."),
    ]


def test_scripts_without_blanks_are_compared_by_character() -> None:
    parts = compare_texts("红色的圆", "蓝色的圆")
    assert [part.change for part in parts] == ["removed", "added", "same"]


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_parts_are_both_texts(before: str, after: str) -> None:
    parts = compare_texts(before, after)
    assert "".join(part.text for part in parts if part.change != "added") == before
    assert "".join(part.text for part in parts if part.change != "removed") == after
