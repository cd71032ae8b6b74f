"""A turn as a card of the page: its image, its texts with their marks, its scores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from c3l_ray.inputs.units import digest_text
from c3l_ray.methods.scores import SCORE_NAMES
from c3l_ray.report.shown_turns import FailedImage, ShownTurn
from c3l_ray.report.tables import format_value
from c3l_ray.report.text_diffs import TextPart, compare_texts
from c3l_ray.report.thumbnails import Thumbnail, make_thumbnail
from c3l_ray.report.token_tints import SplitAnswer, TintedText
from c3l_ray.runs.cures import CURES_OF_TURNS

MAX_CHARACTERS = 3_000
"""Of one text; a longer one is cut, and the cut is said."""


class AlternativeAnswer(NamedTuple):
    """Another answer: how often it was sampled, its status and score, and how it differs."""

    num_samples: int
    status: str
    score: str
    parts: list[TextPart]


@dataclass(frozen=True, kw_only=True)
class TurnCard:
    """What the page shows of a turn; every text is as it was written, and not escaped yet.

    Attributes:
        anchor: by which a link reaches it.
        run: the name of its run.
        group: what it is shown for.
        score: by which the report ranks, or None.
        rank: its percentile rank, in words.
        parts: of the answer beside its draft, where there is a draft that differs.
        tints: of the answer's tokens, where the run has them.
        scores: name, value, and the draft's value of each.
    """

    anchor: str
    run: str
    group: str
    kind: str
    status: str
    cure: str
    score: float | None
    rank: str
    image: Thumbnail
    place: str
    question: str | None
    answer: str | None
    parts: list[TextPart]
    tints: list[TintedText] | None
    alternatives: list[AlternativeAnswer]
    details: list[tuple[str, str]]
    scores: list[tuple[str, str, str]]

    @property
    def num_characters(self) -> int:
        """About how many it takes in the page."""
        texts = [self.question or "", self.answer or "", *(text for _, text in self.details)]
        texts += (part.text for part in self.parts)
        texts += (part.text for one in self.alternatives for part in one.parts)
        tokens = 60 * len(self.tints or ())
        return len(self.image.url or "") + sum(map(len, texts)) + tokens + 3_000


@dataclass(frozen=True, kw_only=True)
class FailureCard:
    """A failed image: its run, where it comes from, what is wrong, and itself if it decodes."""

    run: str
    place: str
    error: str
    image: Thumbnail


def make_cards(
    shown: Sequence[ShownTurn], run: str, by: str, split: SplitAnswer | None
) -> Iterator[TurnCard]:
    """The cards of a run's turns.

    Args:
        shown: the turns.
        run: its name.
        by: the score that ranks them.
        split: what splits answers into tokens, or None.
    """
    for one in shown:
        turn, record = one.turn, one.record
        scores: Mapping[str, Any] = turn.get("scores") or {}
        draft_scores: Mapping[str, Any] = turn.get("draft_scores") or {}
        answer, draft = turn.get("answer"), turn.get("draft")
        parts: list[TextPart] = []
        if answer is not None and draft is not None and draft != answer:
            parts = compare_texts(cut_text(draft), cut_text(answer))
        tints = (
            split(record["turns"], one.place)
            if split and len(answer or "") < MAX_CHARACTERS
            else None
        )
        identity = [record["origin"], record["source"], record["key"], record["image_id"]]
        yield TurnCard(
            anchor=f"t-{digest_text(chr(31).join([run, *identity, str(one.place)]))}",
            run=run,
            group=one.group,
            kind=turn["kind"],
            status=turn["status"],
            cure=CURES_OF_TURNS.get(turn["status"], ""),
            score=scores.get(by),
            rank="" if one.rank is None else f"better than {one.rank:.0%} of its kind",
            image=make_thumbnail(record["image"]),
            place=f"{record['source']} {record['key']}",
            question=cut_text(turn["question"]) if turn.get("question") is not None else None,
            answer=cut_text(answer) if answer is not None else None,
            parts=parts,
            tints=tints,
            alternatives=list(_list_alternatives(turn, by)),
            details=list(_list_details(one)),
            scores=[
                (name, format_value(scores.get(name)), format_value(draft_scores.get(name)))
                for name in SCORE_NAMES
                if scores.get(name) is not None or draft_scores.get(name) is not None
            ],
        )


def make_failure_card(failure: FailedImage, run: str) -> FailureCard:
    record = failure.record
    return FailureCard(
        run=run,
        place=f"{record['source']} {record['key']}",
        error=cut_text(record["error"]),
        image=make_thumbnail(record["image"]),
    )


def _list_alternatives(turn: Mapping[str, Any], by: str) -> Iterator[AlternativeAnswer]:
    for one in turn.get("alternatives") or ():
        scores = one.get("scores") or {}
        yield AlternativeAnswer(
            num_samples=one["num_samples"],
            status=one["status"],
            score=format_value(scores.get(by)),
            parts=compare_texts(cut_text(turn.get("answer")), cut_text(one["answer"])),
        )


def _list_details(one: ShownTurn) -> Iterator[tuple[str, str]]:
    """What else is known of a turn, where there is something."""
    turn, record = one.turn, one.record
    correction = turn.get("correction")
    details = {
        "instruction": turn["instruction"],
        "reply": turn.get("reply"),
        "thought": turn.get("thought"),
        "correction": correction
        and f"{correction['outcome']}, {correction['num_requests']} requests, "
        f"{correction['kept_tokens']} of {correction['generated_tokens']} tokens kept",
        "caption": record["caption"],
        "tokens": turn.get("num_tokens"),
        "image": record["image_id"],
    }
    for name, text in details.items():
        if text not in (None, ""):
            yield name, cut_text(str(text))


def cut_text(text: str | None) -> str:
    """A text of at most MAX_CHARACTERS, which says what it lacks; "" for None."""
    if text is None:
        return ""
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]} [{len(text) - MAX_CHARACTERS:,} characters more]"
