"""What a model's replies hold: thoughts, then a question and its answer, or neither."""

from collections.abc import Sequence, Set
from dataclasses import replace
from typing import Any

from c3l_ray import chat
from c3l_ray.errors import RefusedRequest
from c3l_ray.inference.engine_protocol import Reply
from c3l_ray.methods import c3l, thoughts
from c3l_ray.methods.thoughts import SplitReply
from c3l_ray.processors import is_thinking_on
from c3l_ray.schema import Turn, TurnStatus


class ReplyReader:
    """Reads the replies of one model.

    Attributes:
        special_tokens: of the tokenizer: a turn that holds one could not be asked again.
        opens_thought: whether a prompt for a reply ends inside a thought.
        may_think: whether a reply may begin with a thought, as far as the template tells.
        marks_are_special: whether the marks of thoughts are special tokens. An engine that leaves
            those out of the text would make a thought and the reply after it one.

    Args:
        processor: of the model, as `processors.load_processor` makes it.
    """

    def __init__(self, processor: Any) -> None:
        self.special_tokens = chat.special_tokens(processor)
        self.opens_thought = chat.opens_thought(processor)
        self.may_think = self.opens_thought or is_thinking_on(processor)
        marks = {mark for pair in thoughts.MARKS for mark in pair}
        self.marks_are_special = bool(marks & self.special_tokens)

    def split(self, text: str, *, begun: bool = False) -> SplitReply:
        """What the model wrote, as its thoughts and its reply.

        Args:
            text: of the engine's reply, with special tokens where the marks are some.
            begun: whether the prompt has the beginning of the reply, which is after any thought.
        """
        split = thoughts.split_reply(text, opened=self.opens_thought and not begun)
        if split.reply is None or not self.marks_are_special:
            return split
        reply = split.reply
        for token in self.special_tokens:
            reply = reply.replace(token, "")
        return replace(split, reply=reply)

    def read_turns(
        self, requests: Sequence[c3l.TurnRequest], replies: Sequence[Reply | RefusedRequest]
    ) -> list[Turn]:
        """Replies as the turns of one image, each with a status of its own.

        Args:
            requests: the image's.
            replies: to each of them.
        """
        turns: list[Turn] = []
        seen_questions: set[str] = set()
        for request, reply in zip(requests, replies, strict=True):
            turn: Turn = {"kind": request.kind, "instruction": request.instruction, "status": "ok"}
            turns.append(turn)
            if isinstance(reply, RefusedRequest):
                turn["status"], turn["reply"] = "refused", str(reply)
                continue
            turn["finish_reason"], turn["num_tokens"] = reply.finish_reason, reply.num_tokens
            split = self.split(reply.text)
            if split.reply is None:
                turn["status"], turn["reply"] = "thought", reply.text
                continue
            turn["thought"] = split.thought or None
            reply = replace(reply, text=split.reply)
            question, answer = c3l.parse_reply(reply.text) or (None, None)
            turn["question"], turn["answer"] = question, answer
            turn["status"] = _reply_status(
                reply, question, answer, seen_questions, self.special_tokens
            )
            turn["reply"] = None if turn["status"] in ("ok", "duplicate") else reply.text
            if turn["status"] == "ok" and question is not None:
                seen_questions.add(question.casefold())
        return turns

    def read_answer(self, reply: Reply, reply_start: str) -> tuple[str, TurnStatus]:
        """A sampled answer and its status, by the rules of a turn's own reply.

        Where no answer can be read, the text is what the model wrote.

        Args:
            reply: what the model wrote after `reply_start`.
            reply_start: what its reply begins with, the question in it (`c3l.begin_reply`); empty
                where it was asked the bare question, so that all of its reply is the answer.
        """
        split = self.split(reply.text, begun=bool(reply_start))
        if split.reply is None:
            return reply.text, "thought"
        reply = replace(reply, text=split.reply)
        if reply_start:
            question, answer = c3l.parse_reply(reply_start + reply.text) or (None, None)
        else:
            question, answer = "", reply.text.strip()
        status = _reply_status(reply, question, answer, set(), self.special_tokens)
        return (reply.text.strip() if answer is None else answer), status


def _reply_status(
    reply: Reply,
    question: str | None,
    answer: str | None,
    seen_questions: Set[str],
    special_tokens: Set[str],
) -> TurnStatus:
    if reply.finish_reason == "length":
        return "truncated"
    if question is None or any(token in reply.text for token in special_tokens):
        return "unparsable"
    if not answer:
        return "empty"
    return "duplicate" if question.casefold() in seen_questions else "ok"
