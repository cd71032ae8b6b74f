"""Conversations as LLaVA and as chat templates write them."""

from typing import Any

Messages = list[dict[str, Any]]


def llava_messages(*messages: tuple[str, Any]) -> Messages:
    return [{"from": role, "value": value} for role, value in messages]


def chat_messages(*messages: tuple[str, Any]) -> Messages:
    return [{"role": role, "content": content} for role, content in messages]
