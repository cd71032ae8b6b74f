"""A chat template that writes the date writes the pinned one, asked and scored alike."""

import datetime
from typing import Any

import pytest
from transformers import AutoProcessor

from c3l_ray import chat
from c3l_ray.scenes import world
from c3l_ray.template_date import date_arguments, pin_date, uses_date

TODAY = "{{ strftime_now('%d %b %Y') }} "


@pytest.fixture
def dated() -> Any:
    """The shipped processor with a template that begins with the date."""
    processor = AutoProcessor.from_pretrained(world.LLAVA)
    processor.chat_template = TODAY + processor.chat_template
    return processor


def test_a_pinned_date_takes_the_place_of_today(dated: Any) -> None:
    assert uses_date(dated)
    today = datetime.date.today().strftime("%d %b %Y")
    prompt = chat.answer_prompt(dated, "What is it?", with_image=True)
    assert today in prompt
    pin_date(dated, "2024-02-29")
    pinned = chat.answer_prompt(dated, "What is it?", with_image=True)
    assert pinned == prompt.replace(today, "29 Feb 2024")
    text, (start, end) = chat.render_turn(dated, "What is it?", "A star.", with_image=True)
    assert text.startswith("29 Feb 2024") and text[start:end] == "A star."


def test_a_template_without_a_date_takes_none(caplog: pytest.LogCaptureFixture) -> None:
    processor = AutoProcessor.from_pretrained(world.LLAVA)
    before = chat.answer_prompt(processor, "What is it?", with_image=True)
    pin_date(processor, "2024-02-29")
    assert not uses_date(processor) and date_arguments(processor) == {}
    assert chat.answer_prompt(processor, "What is it?", with_image=True) == before


def test_named_templates_are_searched_too(dated: Any) -> None:
    dated.chat_template = {"default": "{{ messages }}", "tools": TODAY}
    assert uses_date(dated)
    dated.chat_template = None
    assert not uses_date(dated)
