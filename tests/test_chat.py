"""Prompts that continue a reply, under chat templates as model families write them."""

from types import SimpleNamespace
from typing import Any

import jinja2
import pytest

from c3l_ray import chat

TEMPLATES = {
    "llava": (
        "{% for m in messages %}{{ m.role | upper }}:{% for c in m.content %}"
        "{% if c.type == 'image' %} <image>\n{% else %} {{ c.text }}{% endif %}{% endfor %} "
        "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    ),
    "chatml": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
        "{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "trimming": (
        "{% for m in messages %}[{{ m.role }}]{% for c in m.content %}"
        "{% if c.type == 'image' %}<image>{% else %}{{ c.text | trim }}{% endif %}{% endfor %}<e>"
        "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    ),
}
UPPER = TEMPLATES["trimming"].replace("trim", "upper")


def make_processor(template: str) -> Any:
    def apply(messages: Any, *, add_generation_prompt: bool = False, **_: Any) -> str:
        return jinja2.Template(template).render(
            messages=messages, add_generation_prompt=add_generation_prompt
        )

    return SimpleNamespace(apply_chat_template=apply)


@pytest.mark.parametrize("family", TEMPLATES)
@pytest.mark.parametrize("reply_start", ["It is red.", "Question: What? Answer:", "It is red.\n\n"])
@pytest.mark.parametrize("question", ["What?", "It is red."])
def test_the_prompt_ends_where_the_reply_continues(
    family: str, reply_start: str, question: str
) -> None:
    processor = make_processor(TEMPLATES[family])
    prompt = chat.continuation_prompt(processor, question, reply_start, with_image=True)
    assert prompt.endswith(reply_start)
    assert prompt.startswith(chat.answer_prompt(processor, question, with_image=True))
    assert prompt.count("<image>") == 1


@pytest.mark.parametrize("family", TEMPLATES)
def test_an_empty_reply_start_gives_the_answer_prompt(family: str) -> None:
    processor = make_processor(TEMPLATES[family])
    prompt = chat.answer_prompt(processor, "What?", with_image=True)
    assert chat.continuation_prompt(processor, "What?", "", with_image=True) == prompt


def test_a_template_that_changes_the_reply_is_refused() -> None:
    with pytest.raises(ValueError, match="changes the answer"):
        chat.continuation_prompt(make_processor(UPPER), "What?", "It is red.", with_image=True)


@pytest.mark.parametrize("answer", ["think", "/think", "k", "i", "assistant", "e", "It is red."])
def test_the_templates_own_words_are_not_the_answer(answer: str) -> None:
    thinking = (
        "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' %}<think></think>"
        "{% endif %}{{ m.content[0].text }}<e>{% endfor %}"
        "{% if add_generation_prompt %}[assistant]<think>{% endif %}"
    )
    text, span = chat.render_turn(make_processor(thinking), "What?", answer, with_image=False)
    assert text[slice(*span)] == answer
    assert text[: span[0]].endswith("[assistant]<think></think>") and text[span[1] :] == "<e>"
