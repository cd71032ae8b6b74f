"""The date that chat templates may write into prompts, pinned to one day for a whole run.

Templates of Mistral's and others' call `strftime_now`, so that a prompt of one day is another one
on the next, and a resumed run would mix them.
"""

import datetime
from typing import Any

_FUNCTION = "strftime_now"


def uses_date(processor: Any) -> bool:
    """Whether a processor's chat template writes the date."""
    template = getattr(processor, "chat_template", None)
    templates = template.values() if isinstance(template, dict) else [template]
    return any(_FUNCTION in (text or "") for text in templates)


def pin_date(processor: Any, date: str | None) -> None:
    """Makes a processor's chat template write this day in place of today.

    Args:
        processor: a Hugging Face processor.
        date: as YYYY-MM-DD; None leaves today.
    """
    if date is not None and uses_date(processor):
        processor.pinned_date = datetime.date.fromisoformat(date)


def date_arguments(processor: Any) -> dict[str, Any]:
    """Arguments of `apply_chat_template` that give the template the pinned date, if any."""
    pinned = getattr(processor, "pinned_date", None)
    return {} if pinned is None else {_FUNCTION: pinned.strftime}


def is_day(text: str) -> bool:
    """Whether a text is a day as YYYY-MM-DD."""
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
