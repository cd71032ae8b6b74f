"""What is learnt from one record: sequences of text beside its image, and the part of each word.

For c3l, the positive and its negatives are written as replies to the positive's instruction, in the
format that it asks for: the generator is what is tuned, and turns under one and the same prompt
differ in nothing but what they say. For cgvlm, the caption is the reply. For vigc it is one turn:
written as a reply to an instruction of its kind (VIG), or its answer to its question (VIC).
"""

from collections.abc import Mapping
from typing import Any

from PIL import Image

from c3l_ray.errors import UnusableImage
from c3l_ray.images import decode
from c3l_ray.methods import c3l, cgvlm, ranking, vigc
from c3l_ray.methods.i2c import Floats
from c3l_ray.methods.labels import PseudoLabels, choose_labels
from c3l_ray.train.training_config import TrainConfig
from c3l_ray.train.reading.mixture import NUM_LOTS, Mixture
from c3l_ray.train.reading.chat_text import Example, Sequence, offsets, replies

Record = Mapping[str, Any]
Standings = Mapping[str, Floats]
Draw = tuple[int, int]  # what a mixture draws of a record: a turn, and a lot below NUM_LOTS


def labels(record: Record, config: TrainConfig, standings: Standings) -> PseudoLabels | None:
    """The pseudo-labels of a record that c3l can learn from, or None."""
    found = choose_labels(
        record["turns"],
        by=config.positive_by,
        guard=config.signed_guard,
        margin=config.margin,
        same_kind=config.negatives == "kind",
        standings=standings if config.within == "kind" else None,
        key=record["image_id"],
    )
    if found is None or not (found.negatives or config.contrast.in_batch_negatives):
        return None
    needs_description = config.contrast.anchor == "description"
    if needs_description and describe(record, found.positive) is None:
        return None
    return found


def usable(record: Record, config: TrainConfig, standings: Standings) -> bool:
    """Whether a record can be learnt from, seen without its image."""
    if record["status"] != "ok":
        return False
    match config.objective:
        case "c3l":
            return labels(record, config, standings) is not None
        case "cgvlm":
            return cgvlm.find_caption(record) is not None
        case "vigc":
            return bool(candidates(record, config.mixture))


def candidates(record: Record, mixture: Mixture) -> dict[int, str]:
    """The places of the turns that vigc can draw of a record, and the set of each."""
    if record["status"] != "ok":
        return {}
    found = {
        place: mixture.set_of(turn["kind"], record["source"])
        for place, turn in enumerate(record["turns"])
        if turn["status"] == "ok" and turn["question"]  # "<image>" alone asks nothing
    }
    return {place: name for place, name in found.items() if name is not None}


def describe(record: Record, positive: int) -> str | None:
    """The image's caption, else the answer of its first detail turn that is not the positive."""
    others = [turn for place, turn in enumerate(record["turns"]) if place != positive]
    found = cgvlm.find_caption({"caption": record["caption"], "turns": others})
    return found[1] if found else None


def example(
    record: Record,
    processor: Any,
    config: TrainConfig,
    standings: Standings,
    draw: Draw | None = None,
) -> Example | None:
    """What is learnt from a usable record, or None where the model cannot read it as it is.

    Args:
        record: a row of the schema RECORDS, with its image.
        processor: of the model.
        config: of the run.
        standings: sorted scores by kind, for `--within kind`.
        draw: of the mixture; None draws by the image's id, the same at every evaluation.
    """
    try:
        image = decode(record["image"], config.max_pixels)
    except UnusableImage:
        return None
    try:
        match config.objective:
            case "c3l":
                return _contrast(record, image, processor, config, standings)
            case "cgvlm":
                asked, reply = cgvlm.find_caption(record) or ("", "")
            case "vigc":
                asked, reply = instructed(record, config.mixture, draw)
        sequence = replies(processor, asked)(reply, learnt=True)
        return Example(image=image, sequences=(sequence,), num_turns=1)
    except ValueError:  # the chat template or the tokenizer reads a text as something else
        return None


def instructed(record: Record, mixture: Mixture, draw: Draw | None) -> tuple[str, str]:
    """What the model is asked about an image, and the reply that vigc learns, by a draw."""
    if draw is None:
        places = list(candidates(record, mixture))
        of_all = ranking.uniform_from(f"turn {record['image_id']}")
        lot = int(ranking.uniform_from(f"lot {record['image_id']}") * NUM_LOTS)
        draw = places[int(of_all * len(places))], lot
    place, lot = draw
    turn = record["turns"][place]
    if lot < mixture.correction_share * NUM_LOTS:
        return vigc.correction_example(turn["question"], turn["answer"])
    kind = mixture.kind_of(turn["kind"], record["source"])
    return vigc.generation_example(kind, lot, turn["question"], turn["answer"])


def _contrast(
    record: Record,
    image: Image.Image,
    processor: Any,
    config: TrainConfig,
    standings: Standings,
) -> Example | None:
    found = labels(record, config, standings)
    if found is None:
        return None
    turns = record["turns"]
    # A turn made elsewhere has none: it is learnt as a reply to one of ours.
    ours = c3l.plan_requests(record["image_id"], 1)[0].instruction
    instructions = [turn["instruction"] or ours for turn in turns]
    instruction = instructions[found.positive]

    def written(place: int, instruction: str = instruction, **marked: bool) -> Sequence:
        reply = c3l.format_reply(turns[place]["question"], turns[place]["answer"], instruction)
        return replies(processor, instruction)(reply, **marked)

    by_instruction = config.contrast.anchor == "instruction"
    best = written(found.positive, learnt=True, anchored=by_instruction)
    if config.contrast.token_weights == "vig":
        threshold = config.contrast.token_threshold
        best = _without_ungrounded(best, turns[found.positive], processor, threshold)
    if config.contrast.similarity == "likelihood":
        # Each is as likely as it was where it was made.
        others = [written(place, instructions[place], learnt=True) for place in found.negatives]
    else:
        others = [written(place) for place in found.negatives]
    sequences = [best, *others]
    if not by_instruction:
        described = describe(record, found.positive) or ""
        description = replies(processor, instruction)(described)
        sequences.append(
            Sequence(text=description.text, turn=description.turn, anchor=description.turn)
        )
    return Example(image=image, sequences=tuple(sequences), num_turns=1 + len(found.negatives))


def _without_ungrounded(
    best: Sequence, positive: Mapping[str, Any], processor: Any, threshold: float
) -> Sequence:
    """The sequence with the answer's tokens unlearnt that the image does not make likelier.

    The gains are of the answer's tokens after its question; a reply's answer that is split into
    another number of tokens is learnt whole.
    """
    gains = positive["token_gain"]
    start = best.text.rfind(positive["answer"], *best.turn)
    if not gains or start < 0:
        return best
    end = start + len(positive["answer"])
    tokens = [span for span in offsets(processor, best.text) if span[0] < end and span[1] > start]
    if len(tokens) != len(gains):
        return best
    unlearnt = tuple(
        (max(left, start), right)
        for (left, right), gain in zip(tokens, gains, strict=True)
        if gain is None or gain <= threshold
    )
    return Sequence(
        text=best.text, turn=best.turn, target=best.target, anchor=best.anchor, unlearnt=unlearnt
    )
