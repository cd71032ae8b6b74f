import pytest

from c3l_ray.benchmarks.verdicts import read_as_mme, read_as_pope, read_choice, read_yes_or_no

OPTIONS = {"A": "a red circle", "B": "a circle", "C": "none of these", "D": "7"}


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("Yes", "yes"),
        ("yes.", "yes"),
        ("NO", "no"),
        (" **No**, there is no dog.", "no"),
        ("Yes, no doubt.", "yes"),
        ("No. Yes, a cat.", "no"),
        ("There is a dog.", "yes"),
        ("There are two dogs, not far from a cat.", "no"),  # as POPE's own script reads it
        ("There isn't a dog.", "no"),
        ("There isn’t a dog.", "no"),
        ("I see none.\nYes", "no"),
        ("The answer is yes.", "yes"),
        ("A dog lies on the sofa.", None),
        ("I am not sure.", None),
        ("I cannot tell whether there is a dog.", None),
        ("Know", None),  # holds "no", and is none
        ("Yesterday", None),
        ("...", None),
        ("", None),
        (None, None),
    ],
)
def test_an_answer_says_yes_or_no_or_neither(answer: str | None, verdict: str | None) -> None:
    assert read_yes_or_no(answer) == verdict


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("No", "no"),
        ("Yes, there is no doubt", "no"),
        ("Yes. There is no cat.", "yes"),  # the first sentence only
        ("It is, not, here", "no"),
        ("NO", "yes"),
        ("No!", "yes"),
        ("There isn't a dog", "yes"),
        ("I can see a cat", "yes"),
        ("", "yes"),
    ],
)
def test_popes_own_script_takes_all_but_three_words_for_yes(answer: str, verdict: str) -> None:
    assert read_as_pope(answer) == verdict


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("Yes", "yes"),
        (" No.", "no"),
        ("**Yes**", None),  # the first four characters are "**ye"
        ("Not here", "no"),
        ("Know it", "no"),
        ("The answer is yes", None),
        ("", None),
    ],
)
def test_mmes_own_script_reads_four_characters(answer: str, verdict: str | None) -> None:
    assert read_as_mme(answer) == verdict


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
        ("", None),
        (None, None),
    ],
)
def test_an_answer_chooses_an_option_or_none(answer: str | None, letter: str | None) -> None:
    assert read_choice(answer, OPTIONS) == letter


def test_an_answer_that_holds_two_options_chooses_none() -> None:
    assert read_choice("a cat beside a dog", {"A": "cat", "B": "dog"}) is None
    assert read_choice("same", {"A": "Same", "B": "same"}) is None
