import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c3l_ray.methods.sentences import (
    first_paragraph,
    first_sentence,
    join_pieces,
    same_text,
    split_sentences,
)


@pytest.mark.parametrize(
    "text",
    [
        "It is red.| It is big.",
        "Is it red?| Yes!| It is.",
        "It holds fruit, e.g. apples and pears.| They are red.",
        "It holds fruit (e.g. apples. And pears.) on a plate.| They are red.",
        "It is a cat, i.e. an animal.| It sleeps.",
        "It weighs 3.5 kg.| It costs 2.50.| It is cheap.",
        "See www.example.com for more.| It is a site.",
        "Mr. Smith and Dr. J. Jones are here.| They wave.",
        "There is a U.S. flag.| It waves.",
        "It is approx. 5 m wide.| It is wide.",
        "The clock shows 3 p.m. in the picture.| It is late.",
        "The clock shows 3 p.m.| The sky is dark.",
        "Fruit, bread, etc. are there.| The rest is empty.",
        "Fruit, bread, etc.| The rest is empty.",
        "Bus No. 5 is late.| No.| It is on time.",
        'He said "Stop. Go." and left.| Then it rained.',
        'The sign says "Stop."| It is red.',
        "She said “It is red. Look.”| Then she left.",
        "(It is red.)| It is blue.",
        'He cried "Stop!" and ran.| It rained.',
        "Wait...| It moves.",
        "It is big ... and red.| It moves.",
        "**It is red.**| It is big.",
        "1. A dog.| 2. A cat.",
        "Things on the table:|\n- a dog|\n- a cat|\nThat is all.",
        "It is 5 feet tall.|\n\nIt is old.",
        "图片里有一只猫。|它在睡觉！|是吗？",
        "他说：“走吧。再见。”然后离开了。|天黑了。",
        "「行こう。」と彼は言った。|彼は去った。",
        "यह लाल है।| यह बड़ा है।",
        "Das ist z. B. ein Hund.| Er schläft.",
        "a red square",
        'It is a 5" disk.| It is old.| And so on.',
    ],
)
def test_a_whole_text_is_cut_where_a_sentence_ends(text: str) -> None:
    expected = [sentence.strip() for sentence in text.split("|")]
    assert split_sentences(text.replace("|", "")) == expected


@pytest.mark.parametrize(
    ("written", "first"),
    [
        ("It is red. ", "It is red."),
        (" It is red. ", " It is red."),
        ("It is red", None),
        ("It is 3.", None),  # it may go on as 3.5
        ("It holds fruit, e.g. ", None),
        ("It is 3 p.m. ", None),
        ("It is 3 p.m. The sky", "It is 3 p.m."),
        ("It is 3 p.m. in", None),
        ("It has bread, etc. ", None),
        ("Wait... ", None),
        ('He said "Go. ', None),
        ('He said "Go." ', None),
        ('He said "Go." Then', 'He said "Go."'),
        ("他说：“走吧。", None),
        ("图片里有一只猫。", "图片里有一只猫。"),
        ("- a dog\n", "- a dog"),
        ("\n- a dog\n", "\n- a dog"),
        ("1. ", None),
        ("", None),
    ],
)
def test_an_unfinished_text_ends_a_sentence_only_where_it_is_sure(
    written: str, first: str | None
) -> None:
    assert first_sentence(written, ended=False) == first


def test_a_quotation_that_is_never_closed_ends_with_the_text() -> None:
    text = 'He said "Go. It is red.'
    assert first_sentence(text, ended=False) is None
    assert first_sentence(text, ended=True) == 'He said "Go.'


@pytest.mark.parametrize(
    ("text", "ended", "first"),
    [
        ("One. Two.\nThree.\n\nFour.", False, "One. Two.\nThree."),
        ("\n\nOne.\n \nTwo.", False, "\n\nOne."),
        ("One. Two.\n", False, None),
        ("One. Two.", True, "One. Two."),
    ],
)
def test_a_paragraph_ends_with_a_blank_line(text: str, ended: bool, first: str | None) -> None:
    assert first_paragraph(text, ended=ended) == first


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("It is red.", " it is  RED!", True),
        ("It is red.", "It is blue.", False),
        ("它在睡觉。", "它在睡觉！", True),
        ("它在睡觉。", "它在吃饭。", False),
    ],
)
def test_sentences_are_the_same_up_to_case_blanks_and_marks(
    one: str, other: str, alike: bool
) -> None:
    assert same_text(one, other) is alike


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["It is red.", "It is big."], "It is red. It is big."),
        ([" It is red.", "  It is big. "], "It is red. It is big."),
        (["Things:", "\n- a dog", "\n\n\nEnd."], "Things:\n- a dog\n\nEnd."),
        (["它在睡觉。", "它很大。"], "它在睡觉。它很大。"),
        ([], ""),
    ],
)
def test_pieces_are_joined_with_the_blanks_between_them(pieces: list[str], text: str) -> None:
    assert join_pieces(pieces) == text


ANY_TEXT = st.text("aB1 .!?\n\"'()“”。「」e.g")


@settings(deadline=None)
@given(ANY_TEXT)
def test_nothing_is_lost_or_made_up(text: str) -> None:
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


@settings(deadline=None)
@given(ANY_TEXT, ANY_TEXT)
def test_a_sentence_that_is_over_stays_so_whatever_follows(text: str, more: str) -> None:
    first = first_sentence(text, ended=False)
    if first is not None and not text.endswith(tuple("。」'\"“”()")):
        assert first_sentence(text + more, ended=False) == first


@pytest.mark.parametrize("ramble", ["e.g. ", '". ', "1. ", "\n", "a", ". ", '"'])
def test_cutting_is_quick_on_what_a_model_can_ramble(ramble: str) -> None:
    started = time.process_time()
    first_sentence("a" + ramble * 5_000, ended=True)
    assert time.process_time() - started < 1
