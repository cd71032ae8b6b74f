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


class TemplateProcessor:
    """A processor of which a chat template is all."""

    def __init__(self, template: str) -> None:
        self.template = jinja2.Template(template)

    def apply_chat_template(
        self, messages: Any, *, add_generation_prompt: bool = False, **_: Any
    ) -> str:
        return self.template.render(messages=messages, add_generation_prompt=add_generation_prompt)


@pytest.mark.parametrize("family", TEMPLATES)
@pytest.mark.parametrize("reply_start", ["It is red.", "Question: What? Answer:", "It is red.\n\n"])
@pytest.mark.parametrize("question", ["What?", "It is red."])
def test_the_prompt_ends_where_the_reply_continues(
    family: str, reply_start: str, question: str
) -> None:
    processor = TemplateProcessor(TEMPLATES[family])
    prompt = chat.continuation_prompt(processor, question, reply_start, with_image=True)
    assert prompt.endswith(reply_start)
    assert prompt.startswith(chat.answer_prompt(processor, question, with_image=True))
    assert prompt.count("<image>") == 1


@pytest.mark.parametrize("family", TEMPLATES)
def test_an_empty_reply_start_gives_the_answer_prompt(family: str) -> None:
    processor = TemplateProcessor(TEMPLATES[family])
    prompt = chat.answer_prompt(processor, "What?", with_image=True)
    assert chat.continuation_prompt(processor, "What?", "", with_image=True) == prompt


def test_a_template_that_changes_the_reply_is_refused() -> None:
    with pytest.raises(ValueError, match="changes the answer"):
        chat.continuation_prompt(TemplateProcessor(UPPER), "What?", "It is red.", with_image=True)


@pytest.mark.parametrize("answer", ["think", "/think", "k", "i", "assistant", "e", "It is red."])
def test_the_templates_own_words_are_not_the_answer(answer: str) -> None:
    thinking = (
        "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' %}<think></think>"
        "{% endif %}{{ m.content[0].text }}<e>{% endfor %}"
        "{% if add_generation_prompt %}[assistant]<think>{% endif %}"
    )
    text, span = chat.render_turn(TemplateProcessor(thinking), "What?", answer, with_image=False)
    assert text[slice(*span)] == answer
    assert text[: span[0]].endswith("[assistant]<think></think>") and text[span[1] :] == "<e>"


ASKED_ONLY = TEMPLATES["chatml"].replace(
    "assistant\n{% endif %}", "assistant\n<|channel>thought\n<channel|>{% endif %}"
)


@pytest.mark.parametrize("answer", ["thought", "channel", "It is red."])
def test_an_empty_thought_before_an_answer_that_is_asked_for_is_before_a_given_one_too(
    answer: str,
) -> None:
    processor = TemplateProcessor(ASKED_ONLY)
    history = [("What?", "A star.")]
    prompt = chat.answer_prompt(processor, "Where?", with_image=True, history=history)
    text, (start, end) = chat.render_turn(
        processor, "Where?", answer, with_image=True, history=history
    )
    assert text[:start] == prompt and text[start:end] == answer
    assert text[end:] == "<|im_end|>\n" and text.count("<|channel>") == 1
    continued = chat.continuation_prompt(processor, "Where?", answer, with_image=True)
    assert continued == chat.answer_prompt(processor, "Where?", with_image=True) + answer


@pytest.mark.parametrize("opened", ["<think>\n", "Think! "])
def test_only_a_closed_thought_is_put_before_an_answer(opened: str) -> None:
    template = TEMPLATES["chatml"].replace(
        "assistant\n{% endif %}", f"assistant\n{opened}{{% endif %}}"
    )
    text, (start, _) = chat.render_turn(
        TemplateProcessor(template), "What?", "A star.", with_image=True
    )
    assert text[:start].endswith("<|im_start|>assistant\n")


SYSTEM = "You are a polite robot."
WITHOUT_SYSTEM = {
    "refuses": "{% if messages[0].role == 'system' %}{{ raise_exception('No.') }}{% endif %}"
    + TEMPLATES["chatml"],
    "leaves out": TEMPLATES["chatml"].replace(
        "for m in messages", "for m in messages if m.role != 'system'"
    ),
    "takes for the assistant": TEMPLATES["chatml"].replace(
        "m.role", "('user' if m.role == 'user' else 'assistant')"
    ),
    "writes as Python": TEMPLATES["chatml"].replace(
        "{% for c in m.content %}",
        "{% if m.role == 'system' %}{{ m.content }}{% endif %}"
        "{% for c in m.content if m.role != 'system' %}",
    ),
}


def test_a_system_message_is_before_the_question() -> None:
    processor = TemplateProcessor(TEMPLATES["chatml"])
    assert chat.takes_system_message(processor)
    prompt = chat.answer_prompt(processor, "What?", with_image=True, system=SYSTEM)
    plain = chat.answer_prompt(processor, "What?", with_image=True)
    assert prompt == f"<|im_start|>system\n{SYSTEM}<|im_end|>\n{plain}"
    text, (start, _) = chat.render_turn(
        processor, "What?", "A star.", with_image=True, system=SYSTEM
    )
    assert text[:start] == prompt


@pytest.mark.parametrize("template", WITHOUT_SYSTEM.values(), ids=WITHOUT_SYSTEM)
def test_a_system_message_without_a_role_is_in_the_first_question(template: str) -> None:
    processor = TemplateProcessor(template)
    assert not chat.takes_system_message(processor)
    history = [("What?", "A star.")]
    prompt = chat.answer_prompt(
        processor, "Where?", with_image=True, history=history, system=SYSTEM
    )
    first_question = f"{SYSTEM}\n\nWhat?"
    assert prompt == chat.answer_prompt(
        processor, "Where?", with_image=True, history=[(first_question, "A star.")]
    )
    assert prompt.count(SYSTEM) == 1 and f"<image>{first_question}" in prompt


@pytest.mark.parametrize(
    ("family", "special_tokens", "end"),
    [
        ("llava", {"<image>", "</s>"}, "</s>"),
        ("chatml", {"<image>", "</s>", "<|im_start|>", "<|im_end|>"}, "<|im_end|>"),
        ("trimming", {"<image>", "<e>"}, "<e>"),
    ],
)
def test_a_reply_ends_with_the_token_that_the_model_writes(
    family: str, special_tokens: set[str], end: str
) -> None:
    processor: Any = TemplateProcessor(TEMPLATES[family])
    processor.tokenizer = SimpleNamespace(eos_token="</s>")
    text, span = chat.render_turn(processor, "What?", "It is red.", with_image=True)
    cut = chat.cut_after_reply(processor, text, span[1], special_tokens)
    assert cut == text[: span[1]] + end
    processor.tokenizer.eos_token = None
    if family == "llava":  # whose template writes no end
        with pytest.raises(ValueError, match="no token that ends a reply"):
            chat.cut_after_reply(processor, text, span[1], special_tokens)
    else:
        assert chat.cut_after_reply(processor, text, span[1], special_tokens) == cut
