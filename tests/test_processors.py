"""Processors with the arguments of their chat template."""

from pathlib import Path

import pytest
import vllm

from c3l_ray import chat
from c3l_ray.errors import PreflightError
from c3l_ray.processors import (
    is_thinking_on,
    keep_known_args,
    list_template_args,
    load_processor,
    resolve_template_args,
)
from tests import thinking

FLAG = "--model.template-args"
MINICPM = "transformers_utils/chat_templates/template_minicpmv45.jinja"


@pytest.mark.parametrize(
    ("args", "prompt_end", "opens", "is_on"),
    [
        ((), "ASSISTANT:<think></think>", False, False),
        (("enable_thinking=false",), "ASSISTANT:<think></think>", False, False),
        (("enable_thinking=true",), "ASSISTANT:<think>", True, True),
    ],
)
def test_thinking_is_off_unless_it_is_asked_for(
    tmp_path: Path, args: tuple[str, ...], prompt_end: str, opens: bool, is_on: bool
) -> None:
    processor = load_processor(thinking.write_model(tmp_path / "m", thinking.SWITCHED), args)
    assert chat.answer_prompt(processor, "What?", with_image=True).endswith(prompt_end)
    assert (chat.opens_thought(processor), is_thinking_on(processor)) == (opens, is_on)


def test_a_template_without_a_switch_is_rendered_as_it_is(tmp_path: Path) -> None:
    for number, template in enumerate((thinking.ALWAYS, thinking.SHIPPED)):
        name = thinking.write_model(tmp_path / str(number), template)
        processor = load_processor(name)
        assert resolve_template_args(FLAG, name, ()) == ()
        assert not is_thinking_on(processor)
        assert chat.opens_thought(processor) is (template == thinking.ALWAYS)


def test_all_arguments_are_named_once_and_alike(tmp_path: Path) -> None:
    template = thinking.SWITCHED + "{{ effort | default('') }}{{ bos_token }}"
    name = thinking.write_model(tmp_path / "m", template)
    off = ("enable_thinking=false",)
    assert resolve_template_args(FLAG, name, ()) == off
    assert resolve_template_args(FLAG, name, ("enable_thinking = false".replace(" ", ""),)) == off
    both = resolve_template_args(FLAG, name, ("enable_thinking=true", 'effort="low"'))
    assert both == ('effort="low"', "enable_thinking=true")
    assert resolve_template_args(FLAG, name, both) == both
    other = thinking.write_model(tmp_path / "other", thinking.SWITCHED)
    assert keep_known_args(other, both) == ("enable_thinking=true",)
    assert keep_known_args(other, ()) == off


@pytest.mark.parametrize("name", ["enable_thinkin", "messages", "tools", "bos_token", "m"])
def test_an_argument_that_the_template_does_not_know_is_refused(tmp_path: Path, name: str) -> None:
    path = thinking.write_model(tmp_path / "m", thinking.SWITCHED + "{{ bos_token }}")
    with pytest.raises(PreflightError) as refusal:
        resolve_template_args(FLAG, path, (f"{name}=false",))
    assert str(refusal.value) == (
        f"{FLAG} {name}: the chat template of {path} has no such argument; it knows enable_thinking"
    )
    plain = thinking.write_model(tmp_path / "plain", thinking.SHIPPED)
    with pytest.raises(PreflightError, match="no such argument; it takes none"):
        resolve_template_args(FLAG, plain, (f"{name}=false",))


def test_arguments_are_read_of_a_published_template(tmp_path: Path) -> None:
    """It sets some names of its own in branches, and its switch by `set x = x | default(...)`."""
    template = (Path(vllm.__file__).parent / MINICPM).read_text()
    processor = load_processor(thinking.write_model(tmp_path / "m", template))
    assert list_template_args(processor) == {"enable_thinking"}
    message = {"role": "user", "content": "What?"}  # it wants text, not a list of parts
    text = processor.apply_chat_template([message], add_generation_prompt=True)
    assert text.endswith("assistant\n<think>\n\n</think>\n\n")


def test_loops_and_the_tag_of_generations_are_read(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{% if m.skip %}{% continue %}{% endif %}{% generation %}"
        "{{ style }}{{ m.role }}{% endgeneration %}{% endfor %}"
        "{% for style in styles %}{{ style }}{% endfor %}"
    )
    processor = load_processor(thinking.write_model(tmp_path / "m", template))
    assert list_template_args(processor) == {"style", "styles"}
