# ruff: noqa: RUF001  # marks of other scripts are part of what is read
"""Answers as models write them, and the option that a reader takes each for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c3l_ray.benchmarks.choices import read_choice

SHAPES = {"A": "a red circle", "B": "a circle", "C": "none of these", "D": "7"}
ANIMALS = {"A": "cat", "B": "dog", "C": "horse", "D": "cow"}
YES_NO = {"A": "Yes", "B": "No"}
NESTED = {"A": "dog", "B": "brown dog", "C": "cat", "D": "a red car"}
SOLUTIONS = {"A": "Solution B", "B": "Solution A", "C": "neither; they are the same"}
VITAMINS = {"A": "vitamin C", "B": "vitamin D", "C": "vitamin A", "D": "vitamin B"}
CHINESE = {"A": "猫", "B": "狗"}


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(C)", "C"),
        ("B. a red circle", "B"),
        ("D: 7", "D"),
        ("A) a red circle", "A"),
        ("The answer is (B).", "B"),
        ("Answer: C", "C"),
        ("Option B is right", "B"),
        ("The answer is a mystery", None),
        ("A red circle", "A"),  # the whole text of an option, and no letter
        ("a circle", "B"),
        ("It shows a circle here.", "B"),
        ("It shows a red circle.", "A"),
        ("7", "D"),
        ("17", None),
        ("A or B", None),
        ("E", None),
        ("A star", None),
        ("...", None),
        ("", None),
        (None, None),
    ],
)
def test_an_answer_chooses_an_option_or_none(answer: str | None, letter: str | None) -> None:
    assert read_choice(answer, SHAPES) == letter


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B\nThe cat sits next to it", "B"),
        ("B\r\ncat", "B"),
        ("B\n\nExplanation: the cat is beside it.", "B"),
        ("B, not the cat", "B"),
        ("B - there is no horse here", "B"),
        ("B – a dog", "B"),
        ("B—dog", "B"),
        ("B; the cat is absent", "B"),
        ("B.dog", "B"),
        ("B:cat", "B"),
        ("D)cow", "D"),
        ("B (not the cat)", "B"),
        ("B dog", "B"),
        ("B because the cat is absent", "B"),
        ("B!", "B"),
        ('"B"', "B"),
        ("<B>", "B"),
        ("[D]", "D"),
        ("- B", "B"),
    ],
)
def test_a_capital_letter_at_the_begin_chooses_whatever_follows(answer: str, letter: str) -> None:
    assert read_choice(answer, ANIMALS) == letter


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("A", "A"),
        ("A.", "A"),
        ("(A)", "A"),
        ("A (cat)", "A"),
        ("A\nThe dog is absent", "A"),
        ("A, not the dog", "A"),
        ("A because the dog is absent", "A"),
        ("A is the right answer", "A"),
        ("A dog", "B"),
        ("A dog lies there.", "B"),
        ("A picture", None),
        ("A-frame", None),
        ("The answer is A", "A"),
        ("The answer is A.", "A"),
        ("The answer is A\nsince it barks", "A"),
        ("The answer: A dog, as I see it", "B"),
        ("I see a dog.", "B"),
    ],
)
def test_the_article_is_no_letter(answer: str, letter: str | None) -> None:
    assert read_choice(answer, ANIMALS) == letter


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("b) dog", "B"),
        ("(b)", "B"),
        ("a. cat", "A"),
        ("a", "A"),
        ("a\ncat", "A"),
        ("The answer is b.", "B"),
        ("a dog", "B"),
        ("e.g. a dog", "B"),
        ("the answer is a mystery", None),
    ],
)
def test_a_small_letter_chooses_alone_or_before_a_mark(answer: str, letter: str | None) -> None:
    assert read_choice(answer, ANIMALS) == letter


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        (r"\boxed{B}", "B"),
        (r"The cat is absent, so the answer is $\boxed{\text{C}}$.", "C"),
        ("**B**", "B"),
        ("**B.** dog", "B"),
        ("**Answer:** B", "B"),
        ("Based on the image, the correct answer is:\n\n**B. dog**", "B"),
        ("The image shows a cat, so B", "B"),
        ("The cat is absent; therefore, B.", "B"),
        ("It's B.", "B"),
        ("I choose B", "B"),
        ("My choice is D", "D"),
        ("The best answer is option C: horse", "C"),
        ("The correct choice is A, as the cat sits.", "A"),
        ("The answer is B, since option A is wrong", "B"),
        ("A. cat\nB. dog\nThe answer is B", "B"),
        ("Option A is wrong; option B is correct", "B"),
        ("B. Option A shows a cat.", "B"),
    ],
)
def test_a_letter_that_is_stated_chooses(answer: str, letter: str) -> None:
    assert read_choice(answer, ANIMALS) == letter


@pytest.mark.parametrize(
    "answer",
    [
        "B or C",
        "A, B and C",
        "B/C",
        "(A) and (B)",
        "B, C",
        "The answer is B or C",
        "Neither A nor B",
        "A. cat\nB. dog\nC. horse\nD. cow",
        "A. The answer is B",
        "The answer is A. No, the answer is B.",
        "B is not right",
        "Option B is wrong",
        "Not B",
        "Figure D shows a dog",
        "It's a cat (B).",
        "U.S. flag",
        "a cat beside a dog",
        "It is a dog, not a cat",
    ],
)
def test_several_letters_or_others_than_the_text_choose_nothing(answer: str) -> None:
    assert read_choice(answer, ANIMALS) is None


@pytest.mark.parametrize("answer", ["It is not a dog", "There isn't a dog", "no dog"])
def test_a_text_that_is_denied_is_not_chosen(answer: str) -> None:
    assert read_choice(answer, ANIMALS) is None


@pytest.mark.parametrize(
    ("options", "answer", "letter"),
    [
        (YES_NO, "A\nThere is no doubt", "A"),
        (NESTED, "B.brown dog", "B"),
        (NESTED, "B (brown dog)", "B"),
        (NESTED, "It is a brown dog.", "B"),
        (NESTED, "A dog beside a brown dog", None),
        (NESTED, "The answer: A red car is visible, so D", "D"),
        ({"A": "brown dog", "B": "dog house"}, "a brown dog house", None),
        ({"A": "Same", "B": "same"}, "same", None),
        (SOLUTIONS, "Solution B", "A"),
        (SOLUTIONS, "Solution B has the higher concentration.", "A"),
        (SOLUTIONS, "The answer is Solution A", "B"),
        (SOLUTIONS, "B", "B"),
        (VITAMINS, "It is vitamin D.", "B"),
        (VITAMINS, "It is vitamin D (A).", None),
    ],
)
def test_texts_within_texts_and_letters_within_texts(
    options: dict[str, str], answer: str, letter: str | None
) -> None:
    assert read_choice(answer, options) == letter


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B。", "B"),
        ("（B）", "B"),
        ("Ｂ", "B"),
        ("B、狗", "B"),
        ("B：狗", "B"),
        ("B，因为没有猫", "B"),
        ("B是正确的", "B"),
        ("答案是B", "B"),
        ("答案：B。", "B"),
        ("正确答案为（A）。", "A"),
        ("选B", "B"),
        ("选项B", "B"),
        ("A或B", None),
        ("狗。", "B"),
    ],
)
def test_chinese_marks_and_words_are_read(answer: str, letter: str | None) -> None:
    assert read_choice(answer, CHINESE) == letter


@pytest.mark.parametrize("unit", ["a cat ", "A, B, ", "A ", "-\n", "answer is", "(", " ", "so "])
def test_a_long_degenerate_answer_is_read_at_once(unit: str) -> None:
    """A model that repeats itself up to the longest answer; a slow pattern would take minutes."""
    assert read_choice(unit * 10_000 + "x", ANIMALS) in (None, "A")


@settings(deadline=None)
@given(st.text("ABab .,:()\n*or", max_size=30))
def test_what_is_chosen_is_an_option_that_the_answer_names(answer: str) -> None:
    options = {"A": "or", "B": "bar"}
    letter = read_choice(answer, options)
    assert letter is None or letter in answer.upper() or options[letter] in answer.lower()
