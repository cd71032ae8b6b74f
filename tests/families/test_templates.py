"""Templates that let the model think: what each writes where it thinks and where it does not."""

from typing import Any

import jinja2
import pytest

from tests.families import templates

QUESTION = {
    "role": "user",
    "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}],
}


def render(template: str, **arguments: Any) -> str:
    return jinja2.Template(template).render(
        messages=[QUESTION], add_generation_prompt=True, **arguments
    )


@pytest.mark.parametrize(
    ("template", "thinks", "does_not_think"),
    [
        (
            templates.QWEN_3_5,
            "What is it?<|im_end|>\n<|im_start|>assistant\n<think>\n",
            "What is it?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        ),
        (
            templates.MINICPM_V_4_6,
            "What is it?<|im_end|>\n<|im_start|>assistant\n<think>\n",
            "What is it?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        ),
        (
            templates.GLM_4_6V,
            "What is it?<|assistant|>",
            "What is it?/nothink<|assistant|>\n<think></think>",
        ),
    ],
    ids=["qwen-3.5", "minicpm-v-4.6", "glm-4.6v"],
)
def test_thinking_is_on_unless_it_is_switched_off(
    template: str, thinks: str, does_not_think: str
) -> None:
    assert render(template).endswith(thinks)
    assert render(template, enable_thinking=True).endswith(thinks)
    assert render(template, enable_thinking=False).endswith(does_not_think)
    assert render(templates.THINKING_OFF + template).endswith(does_not_think)
