"""The shipped model with chat templates that think aloud, and others that no family shows."""

from pathlib import Path

from c3l_ray.scenes import world

SHIPPED = (world.LLAVA / "chat_template.jinja").read_text()
_ASKS = "{% if add_generation_prompt %} ASSISTANT:"
_ANSWERS = "{% else %} ASSISTANT:{% endif %}"
# Thinks unless it is switched off; before its last answer it writes an empty thought.
SWITCHED = SHIPPED.replace(
    _ASKS,
    _ASKS + "{% if enable_thinking is defined and enable_thinking is false %}<think></think>"
    "{% else %}<think>{% endif %}",
).replace(
    _ANSWERS,
    "{% else %} ASSISTANT:{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}"
    "{% endif %}",
)
ALWAYS = SHIPPED.replace(_ASKS, _ASKS + "<think>")
# Writes an empty thought where an answer is asked for, and only there, as Gemma 4 of 31B does.
ASKED_ONLY = SHIPPED.replace(_ASKS, _ASKS + "<|channel>thought\n<channel|>")
# Has a role for the system's message, which the shipped template has not.
WITH_SYSTEM = (
    "{% for m in messages if m.role == 'system' %}{{ m.content[0].text }} {% endfor %}"
    + (SHIPPED.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}"))
)


def write_model(folder: Path, template: str) -> str:
    """The shipped model with another chat template; its path."""
    folder.mkdir(parents=True)
    for file in world.LLAVA.iterdir():
        if file.name != "chat_template.jinja":
            (folder / file.name).symlink_to(file)
    (folder / "chat_template.jinja").write_text(template)
    return str(folder)
