"""What is learnt from one record: texts beside its image, and what is marked in each.

For c3l, the positive and its negatives are written as replies to the positive's instruction, in the
format that it asks for: the generator is what is tuned, and turns under one and the same prompt
differ in nothing but what they say. For cgvlm, the caption is the reply. For vigc it is one turn:
written as a reply to an instruction of its kind (VIG), or its answer to its question (VIC). For
conversations it is all turns in one text. For answers it is the best and the worst answer to one
question.

What was said under a system message is learnt under it.
"""

import dataclasses
from typing import Any

from PIL import Image

from c3l_ray.errors import UnusableImage
from c3l_ray.images import decode_image
from c3l_ray.methods import c3l, cgvlm, ranking, vigc
from c3l_ray.methods.answers import AnswerPair
from c3l_ray.methods.labels import PseudoLabels, ScoreQuantiles, choose_labels
from c3l_ray.schema import Record, Turn
from c3l_ray.train.mixture_config import Mixture
from c3l_ray.train.reading.answer_pairs import choose_place, find_pairs, pair_texts
from c3l_ray.train.reading.chat_text import (
    ChatText,
    Example,
    SkipReason,
    reply_text,
    token_spans,
)
from c3l_ray.train.reading.conversation import (
    conversation_text,
    find_exchanges,
    find_system_message,
)
from c3l_ray.train.reading.mixture import DRAW_RANGE, TurnDraw
from c3l_ray.train.training_config import TrainConfig


def find_labels(
    record: Record, config: TrainConfig, quantiles: ScoreQuantiles
) -> PseudoLabels | None:
    """The pseudo-labels of a record that c3l can learn from, or None."""
    labels = choose_labels(
        record["turns"], config.labels, quantiles=quantiles, image_id=record["image_id"]
    )
    if labels is None or not (labels.negatives or config.contrast.in_batch_negatives):
        return None
    needs_description = config.contrast.anchor == "description"
    if needs_description and find_description(record, labels.positive) is None:
        return None
    return labels


def is_usable(record: Record, config: TrainConfig, quantiles: ScoreQuantiles) -> bool:
    """Whether a record can be learnt from, seen without its image.

    Args:
        record: with the columns that the objective looks at.
        config: of the run.
        quantiles: of the scores, for --labels.within kind.
    """
    if record["status"] != "ok":
        return False
    match config.objective:
        case "c3l":
            return find_labels(record, config, quantiles) is not None
        case "cgvlm":
            return find_caption(record) is not None
        case "vigc":
            return bool(find_turn_sets(record, config.mixture))
        case "conversations":
            return bool(find_exchanges(record))
        case "answers":
            pairs = find_pairs(record, config.answers)
            return any(isinstance(pair, AnswerPair) for pair in pairs.values())


def find_turn_sets(record: Record, mixture: Mixture) -> dict[int, str]:
    """The places of the turns that vigc can draw of a record, and the set of each."""
    if record["status"] != "ok":
        return {}
    sets = {
        place: mixture.find_set(turn["kind"], record["source"])
        for place, turn in enumerate(record["turns"])
        if turn["status"] == "ok" and turn["question"]  # "<image>" alone asks nothing
    }
    return {place: name for place, name in sets.items() if name is not None}


def find_caption(record: Record) -> tuple[str, str] | None:
    """The question and the caption that cgvlm learns, or None."""
    return cgvlm.find_caption(record["caption"], record["turns"], take_given=True)


def find_description(record: Record, positive: int) -> str | None:
    """The image's caption, else the answer of its first detail turn that is not the positive."""
    other_turns = [turn for place, turn in enumerate(record["turns"]) if place != positive]
    caption = cgvlm.find_caption(record["caption"], other_turns)
    return caption[1] if caption else None


def make_example(
    record: Record,
    processor: Any,
    config: TrainConfig,
    quantiles: ScoreQuantiles,
    draw: TurnDraw | None = None,
) -> Example | SkipReason:
    """What is learnt from a usable record, or why the model cannot read it as it is.

    Args:
        record: a row of the schema RECORDS, with its image.
        processor: of the model.
        config: of the run.
        quantiles: of the scores, for --labels.within kind.
        draw: of a turn; None draws by the image's id, the same at every evaluation.
    """
    try:
        image = decode_image(record["image"], config.image_pixels)
    except UnusableImage:
        return "unusable_image"
    try:
        match config.objective:
            case "c3l":
                return _make_contrast(record, image, processor, config, quantiles)
            case "cgvlm":
                instruction, reply = find_caption(record) or ("", "")
                system = ""
            case "vigc":
                draw = draw or _draw_of_image(record, config.mixture)
                instruction, reply = make_instruction_and_reply(record, config.mixture, draw)
                system = _system_message(record["turns"][draw.place])
            case "conversations":
                exchanges, system = find_exchanges(record), find_system_message(record)
                text = conversation_text(processor, exchanges, system)
                return Example(image=image, texts=(text,), num_turns=1)
            case "answers":
                place = draw.place if draw else choose_place(record, config.answers)
                texts = pair_texts(record, place, processor, config.answers)
                return Example(image=image, texts=texts, num_turns=2)
        text = reply_text(processor, instruction, reply, system=system, target=True)
        return Example(image=image, texts=(text,), num_turns=1)
    except ValueError:  # the chat template or the tokenizer reads a text as something else
        return "altered_text"


def make_instruction_and_reply(
    record: Record, mixture: Mixture, draw: TurnDraw | None
) -> tuple[str, str]:
    """What the model is asked about an image, and the reply that vigc learns, by a draw."""
    draw = draw or _draw_of_image(record, mixture)
    turn = record["turns"][draw.place]
    question, answer = _question_and_answer(turn)
    if draw.number < mixture.correction_share * DRAW_RANGE:
        return vigc.correction_example(question, answer)
    kind = mixture.find_kind(turn["kind"], record["source"])
    return vigc.generation_example(kind, draw.number, question, answer)


def _draw_of_image(record: Record, mixture: Mixture) -> TurnDraw:
    """The draw of an evaluation: the same of an image every time."""
    places = list(find_turn_sets(record, mixture))
    choice = ranking.uniform_from(f"turn {record['image_id']}")
    number = int(ranking.uniform_from(f"lot {record['image_id']}") * DRAW_RANGE)
    return TurnDraw(places[int(choice * len(places))], number)


def _make_contrast(
    record: Record,
    image: Image.Image,
    processor: Any,
    config: TrainConfig,
    quantiles: ScoreQuantiles,
) -> Example:
    """The texts that c3l compares."""
    labels = find_labels(record, config, quantiles)
    assert labels is not None, "a usable record has labels"
    turns = record["turns"]
    # A turn made elsewhere has no instruction: it is learnt as a reply to one of ours.
    default_instruction = c3l.plan_requests(record["image_id"], 1)[0].instruction
    instructions = [
        c3l.asking_instruction(turn["kind"], turn["instruction"]) or default_instruction
        for turn in turns
    ]

    def turn_text(
        place: int, like: int = labels.positive, *, target: bool = False, anchor: bool = False
    ) -> ChatText:
        """A turn as a reply to what another one is a reply to."""
        instruction, system = instructions[like], _system_message(turns[like])
        reply = c3l.format_reply(*_question_and_answer(turns[place]), instruction)
        return reply_text(
            processor, instruction, reply, system=system, target=target, anchor=anchor
        )

    has_instruction_anchor = config.contrast.anchor == "instruction"
    positive = turn_text(labels.positive, target=True, anchor=has_instruction_anchor)
    if config.contrast.token_weights == "vig":
        threshold = config.contrast.token_threshold
        positive = _ignore_ungrounded(positive, turns[labels.positive], processor, threshold)
    if config.contrast.similarity == "likelihood":
        # Each is as likely as it was where it was made.
        negatives = [turn_text(place, place, target=True) for place in labels.negatives]
    else:
        negatives = [turn_text(place) for place in labels.negatives]
    texts = [positive, *negatives]
    if not has_instruction_anchor:
        description = find_description(record, labels.positive) or ""
        text = reply_text(
            processor,
            instructions[labels.positive],
            description,
            system=_system_message(turns[labels.positive]),
        )
        texts.append(dataclasses.replace(text, anchor=text.reply))
    return Example(image=image, texts=tuple(texts), num_turns=1 + len(labels.negatives))


def _ignore_ungrounded(
    text: ChatText, positive: Turn, processor: Any, threshold: float
) -> ChatText:
    """The text with those of the answer's tokens ignored that the image does not make likelier.

    The gains are of the answer's tokens after its question; a reply's answer that is split into
    another number of tokens is learnt whole.
    """
    gains = positive["token_gains"]
    _, answer = _question_and_answer(positive)
    start = text.text.rfind(answer, *text.reply)
    if not gains or start < 0:
        return text
    end = start + len(answer)
    spans = [
        (left, right)
        for left, right in token_spans(processor, text.text)
        if left < end and right > start
    ]
    if len(spans) != len(gains):
        return text
    ignored = tuple(
        (max(left, start), right)
        for (left, right), gain in zip(spans, gains, strict=True)
        if gain is None or gain <= threshold
    )
    return dataclasses.replace(text, ignored=ignored)


def _system_message(turn: Turn) -> str:
    return c3l.system_message(turn["kind"], turn["instruction"])


def _question_and_answer(turn: Turn) -> tuple[str, str]:
    question, answer = turn["question"], turn["answer"]
    assert question is not None and answer is not None, "a turn that is ok has both"
    return question, answer
