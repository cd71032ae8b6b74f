import pytest

from c3l_ray.methods.thoughts import (
    MARKS,
    SplitReply,
    drop_closed_thoughts,
    ends_in_thought,
    split_reply,
)

GOT_IT = "Got it, let's look at the image."


@pytest.mark.parametrize(
    ("text", "opened", "thought", "reply"),
    [
        ("It is red.", False, "", "It is red."),
        (" It is red.\n", False, "", " It is red.\n"),  # as it came
        (f"{GOT_IT}\n</think>\n\nIt is red.", True, GOT_IT, "It is red."),
        (f"<think>\n{GOT_IT}\n</think>\n\nIt is red.", False, GOT_IT, "It is red."),
        (f"\n<think>{GOT_IT}</think>It is red.", False, GOT_IT, "It is red."),
        ("<think>\n\n</think>\n\nIt is red.", False, "", "It is red."),
        ("\n</think>\n\nIt is red.", True, "", "It is red."),
        (f"<|channel>thought\n{GOT_IT}<channel|>It is red.", False, GOT_IT, "It is red."),
        (f"[THINK]{GOT_IT}[/THINK]It is red.", False, GOT_IT, "It is red."),
        (f"◁think▷{GOT_IT}◁/think▷It is red.", False, GOT_IT, "It is red."),
        ("<think>a</think><think>b</think>It is red.", False, "a\n\nb", "It is red."),
        ("a</think>\n<think>b</think>It is red.", True, "a\n\nb", "It is red."),
        (f"{GOT_IT}</think>", True, GOT_IT, ""),  # a reply, if an empty one
        # where the model's words end inside a thought
        (GOT_IT, True, "", None),
        ("", True, "", None),
        (f"<think>\n{GOT_IT}", False, "", None),
        (f"a</think><think>{GOT_IT}", True, "", None),
        # where a mark stands elsewhere
        ("red. That works.\n</think>", False, "", None),
        ("Sure. <think>Hm.</think> It is red.", False, "", None),
        (f"{GOT_IT}</think>It is </think> red.", True, GOT_IT, None),
    ],
)
def test_a_thought_is_split_from_the_reply(
    text: str, opened: bool, thought: str, reply: str | None
) -> None:
    assert split_reply(text, opened=opened) == SplitReply(thought=thought, reply=reply)


@pytest.mark.parametrize(("opening", "closing"), MARKS)
def test_a_prompt_ends_in_a_thought_where_it_opens_one(opening: str, closing: str) -> None:
    assert ends_in_thought(f"assistant\n{opening}\n")
    assert ends_in_thought(f"{opening}a{closing}b{opening}")
    for text in ("assistant\n", f"assistant\n{opening}\n\n{closing}\n\n"):
        assert not ends_in_thought(text)
    assert drop_closed_thoughts(f"a\n{opening}b\nc{closing}\n\nd") == "a\nd"
    assert drop_closed_thoughts(f"a\n{opening}\n") == f"a\n{opening}\n"
