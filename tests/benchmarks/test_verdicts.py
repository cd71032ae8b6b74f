import csv
from itertools import dropwhile, takewhile
from pathlib import Path

import pytest

from c3l_ray.benchmarks.verdicts import read_as_mme, read_as_pope, read_yes_or_no
from tests.jobs.commands import ROOT

AGREEMENT = Path(__file__).parent / "agreement.csv"


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
        ("There's a dog.", "yes"),
        ("There’s a dog.", "yes"),
        ("There're two dogs.", "yes"),
        ("In the image, there is a dog.", "yes"),
        ("Based on the image, there is a dog.", "yes"),
        ("There appears to be a dog", "yes"),
        ("There seem to be two dogs", "yes"),
        ("There clearly is a dog", "yes"),
        ("Sure, there is a dog.", "yes"),
        ("I am sure there is no dog.", "no"),
        ("There is no dog, I am sure.", "no"),
        ("There appears to be no dog", "no"),
        ("The answer is yes, because there is no doubt", "yes"),
        ("The answer is no, so it is not yes", "no"),
        ("It is not yes", "no"),
        ("No doubt, there is a dog", "yes"),
        ("There is without a doubt a dog", "yes"),
        ("Yes and no", None),
        ("Yes, and no.", None),
        ("Yes or no", None),
        ("Yes/No", None),
        ("No and yes, it depends", None),
        ("Yes, and no cat is near it", "yes"),
        ("I'm not able to see a dog", None),
        ("I can't be completely certain.", None),
        ("It is not clear whether there is a dog.", None),
        ("I don't know if there is a dog.", None),
        ("There is not enough light in the image.", None),
        ("Let me see whether there is a dog.", None),
        ("Perhaps there is a dog.", None),
        ("Sure.", None),
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


def read_agreement() -> list[dict[str, str]]:
    """What the scripts of POPE and MME say of answers, and what is read here.

    The columns `pope` and `mme` were written by running the definitions as they are published:
    evaluate.py of github.com/AoiDragon/POPE at f3ec604, and parse_pred_ans of calculation.py of
    MME's eval_tool, on the answer in small letters as there.
    """
    with AGREEMENT.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("row", read_agreement(), ids=lambda row: row["answer"])
def test_official_readings_are_those_of_the_scripts_and_ours_are_as_stored(
    row: dict[str, str],
) -> None:
    answer = row["answer"]
    assert read_as_pope(answer) == row["pope"]
    assert (read_as_mme(answer) or "other") == row["mme"]
    assert (read_yes_or_no(answer) or "nothing") == row["here"]


def test_the_page_shows_readings_that_differ_as_they_are_stored() -> None:
    stored = {tuple(row.values()) for row in read_agreement()}
    lines = (ROOT / "jobs/README.md").read_text().splitlines()
    _, _, *shown = takewhile(
        lambda line: line.startswith("|"),
        dropwhile(lambda line: not line.startswith("| answer | POPE's"), lines),
    )
    for line in shown:
        answer, *readings, _ = (cell.strip() for cell in line.strip("|").split("|"))
        assert (answer.strip("`"), *readings) in stored
        assert len({*readings}) > 1
    assert len(shown) >= 6
