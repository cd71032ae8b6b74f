"""What is proved of a scoring model on three small turns, before it scores any other.

A wrong score looks like a right one, so each shortcut of the scorers is compared with the model's
own computation: the output head with the model's own forward pass, batches with rows alone, the
packs with plain rows, and the prompts that answers are scored after with those that the model
answers after.
"""

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from c3l_ray import chat
from c3l_ray.errors import PreflightError, first_line
from c3l_ray.inference.logit_transform import LogitTransform, declared_transforms
from c3l_ray.inference.packing import PackingError
from c3l_ray.inference.rounding import perturb_rounding
from c3l_ray.inference.scoring_model import ScoringModel, TurnToScore
from c3l_ray.methods import c3l
from c3l_ray.methods.i2c import AnswerEvidence

_IMAGE = Image.linear_gradient("L").resize((80, 64)).convert("RGB")
_OTHER_IMAGE = _IMAGE.transpose(Image.Transpose.ROTATE_90)
_WORDING = c3l.INSTRUCTIONS["short"][0]
TRIAL_TURNS = (
    TurnToScore(
        image=_IMAGE,
        question="What is in the image?",
        answer="A grey ramp.",
        instruction=c3l.format_instruction(_WORDING, "text"),
    ),
    TurnToScore(
        image=_IMAGE,
        question="Is it dark?",
        answer="Yes, at the top it is.",
        instruction=c3l.format_instruction(_WORDING, "json"),
    ),
    TurnToScore(image=_OTHER_IMAGE, question="What is it?", answer="It is a ramp on its side."),
)
SIDES = ("image_logprobs", "text_logprobs", "posed_logprobs")

# The largest difference that rounding explains in float32: of a logit, or of a token's ln p.
ROUNDING = 1e-3
# The largest difference of a token's ln p, packed against plain, in half precision, in nats.
ROUNDING_IN_HALF = 0.25
# In half precision, the mean difference of a side's tokens, packed against plain, is also at most
# this many times the mean change by `perturb_rounding`. On a CPU, in bfloat16 and float16, it was
# 0.00 to 1.12 times that for the shipped LLaVA (at most 0.11 nats) and the tiny checkpoints of
# eight families. For the tiny Gemma 3 whose image tokens do not see each other (at most 0.12 nats)
# it was 3.5 times in bfloat16 and 35 times in float16; where turns see each other, or places stand
# for positions, 7.6 times or more.
ROUNDINGS = 2.0
NUM_PERTURBATIONS = 4


class AnswerScorer(Protocol):
    """What `TurnScorer` needs of a scorer: `PackedScorer` or `PlainScorer`."""

    def measure(self, turns: Sequence[TurnToScore]) -> list[AnswerEvidence]: ...

    def measure_fitting(self, turns: Sequence[TurnToScore]) -> list[AnswerEvidence | None]: ...


def find_logit_transform(model: ScoringModel) -> LogitTransform:
    """The declared transform that makes the scorer's logits those of the model's own forward pass.

    Raises:
        PreflightError: none does, or the model cannot compute the trial turns at all.
        torch.OutOfMemoryError: the GPU has no memory for them now.
    """
    try:
        return _find_logit_transform(model)
    except (PreflightError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever an unknown model's code or processor raises
        raise PreflightError(f"{model.name} cannot be scored with: {first_line(error)}") from error


def _find_logit_transform(model: ScoringModel) -> LogitTransform:
    samples = [_compute_logits(model, turn, turn.image) for turn in TRIAL_TURNS]
    try:
        samples += [_compute_logits(model, turn, None) for turn in TRIAL_TURNS]
    except Exception as error:
        raise PreflightError(
            f"{model.name} cannot be scored with: it takes no text without an image, and the "
            f"scores compare the two ({first_line(error)})"
        ) from error
    if any(head_NV.shape != own_NV.shape for head_NV, own_NV in samples):
        head_NV, own_NV = samples[0]
        raise PreflightError(
            f"{model.name} cannot be scored with: it computes {own_NV.shape[-1]} logits a token, "
            f"and its output head {head_NV.shape[-1]}"
        )
    own_logits = torch.cat([own_NV.float() for _, own_NV in samples])
    head_logits = torch.cat([head_NV for head_NV, _ in samples])

    def differences(transform: LogitTransform) -> Tensor:
        return (transform.apply(head_logits.clone()) - own_logits).abs()

    transforms = declared_transforms(model.vlm.config.get_text_config())
    # Rounding has no direction and a wrong transform has, so the mean tells them apart also where
    # the logits of these turns are too small for the largest difference to.
    closest = min(transforms, key=lambda transform: float(differences(transform).mean()))
    difference = float(differences(closest).max())
    rounding = 2 * torch.finfo(model.vlm.dtype).eps * float(own_logits.abs().max())
    if not difference <= max(ROUNDING, rounding):  # a difference may be NaN
        raise PreflightError(
            f"{model.name} cannot be scored with: it changes its logits after the output head in "
            f"a way that its config does not declare (they are up to {difference:.2g} off)"
        )
    return closest


@torch.inference_mode()
def _compute_logits(
    model: ScoringModel, turn: TurnToScore, image: Image.Image | None
) -> tuple[Tensor, Tensor]:
    """The logits [N, V] from the answer's first token on: by the head alone, by the model itself.

    The model's own head is made to multiply in float32 as the scorer's does, so that the two differ
    by what happens after it only.
    """
    tokenized = model.tokenize_turn(turn, with_image=image is not None)
    num_places = len(tokenized.ids) - tokenized.answer_start + 1
    inputs = model.process_turn(turn, image)
    head_NV = model.head_logits(model.hidden_states(inputs)[0, -num_places:])

    def multiply_in_float32(_head: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        if output.dtype in (torch.float32, torch.float64):
            return output
        return model.head_logits(args[0].flatten(0, -2)).unflatten(0, args[0].shape[:-1])

    has_choice = "logits_to_keep" in inspect.signature(model.vlm.forward).parameters
    options = {"logits_to_keep": num_places} if has_choice else {}
    hook = model.head.register_forward_hook(multiply_in_float32)
    try:
        own_BTV = model.vlm(**model.move_inputs(inputs), **options, use_cache=False).logits
    finally:
        hook.remove()
    return head_NV, own_BTV[0, -num_places:].to(head_NV.device)


def check_causality(model: ScoringModel, scorer: AnswerScorer) -> None:
    """Compares the first tokens of an answer with those of a longer one.

    Raises:
        PreflightError: what follows a token changes its probability, or the scorer cannot compute
            the trial turns at all.
    """
    turn = find_trial_turns(model)[0]
    longer_turn = replace(turn, answer=f"{turn.answer} It is darker at the top.")
    try:
        (short,), (long,) = scorer.measure([turn]), scorer.measure([longer_turn])
    except torch.OutOfMemoryError:  # says nothing of the model
        raise
    except Exception as error:  # whatever an unknown model's code or processor raises
        raise PreflightError(f"{model.name} cannot be scored with: {first_line(error)}") from error
    is_half = torch.finfo(model.vlm.dtype).bits < 32
    for side in SIDES:
        if side == "posed_logprobs" and not turn.instruction:
            continue
        ids, longer_ids = (_answer_ids(model, given, side) for given in (turn, longer_turn))
        num_shared = chat.count_shared(ids, longer_ids)
        differences = np.abs(getattr(short, side)[:num_shared] - getattr(long, side)[:num_shared])
        if not differences.max() <= (ROUNDING_IN_HALF if is_half else ROUNDING):
            raise PreflightError(
                f"{model.name} cannot be scored with: its tokens see those that come after them, "
                f"so an answer's probability is not that of writing it (the start of one changes "
                f"by {differences.max():.2g} nats with its end)"
            )


def _answer_ids(model: ScoringModel, turn: TurnToScore, side: str) -> list[int]:
    if side == "posed_logprobs":
        return model.tokenize_posed_turn(turn).answer_ids
    return model.tokenize_turn(turn, with_image=side == "image_logprobs").answer_ids


def compare_prompts(model: ScoringModel) -> list[str]:
    """A note where the model answers after other tokens than its answers are scored after.

    So is it noted where it is asked for a turn by other tokens than the turn is scored after as a
    reply.

    Templates of models that think aloud open a thought where an answer is asked for, and leave it
    out, or an empty one in, where the answer is given. A blank of the template's own is no
    difference.
    """
    for with_image in (True, False):
        for turn in TRIAL_TURNS:
            prompts = chat.compare_prompts(
                model.processor, turn.question, turn.answer, with_image=with_image
            )
            if prompts is not None:
                asked, scored = prompts
                return [
                    f"{model.name} continues after {asked!r} when it generates, but is scored "
                    f"after {scored!r}; its scores are {chat.OTHER_PROMPT}"
                ]
    for turn in find_trial_turns(model):
        if not turn.instruction:
            continue
        reply = c3l.format_reply(turn.question, turn.answer, turn.instruction)
        prompts = chat.compare_prompts(model.processor, turn.instruction, reply, with_image=True)
        if prompts is not None:
            asked, scored = prompts
            return [
                f"{model.name} poses a question after {asked!r}, but posed_logprob is computed "
                f"after {scored!r}; posed_logprob and grounding are {chat.OTHER_PROMPT}"
            ]
    return []


def find_trial_turns(model: ScoringModel) -> list[TurnToScore]:
    """The trial turns, without their instructions where the model cannot read them as replies."""
    return [
        replace(turn, instruction="")
        if turn.instruction and model.unposable_status(turn) is not None
        else turn
        for turn in TRIAL_TURNS
    ]


def check_packing(model: ScoringModel, packed: AnswerScorer, plain: AnswerScorer) -> None:
    """Compares a scorer of many rows at once with the plainer one, on the trial turns.

    Raises:
        PackingError: they differ by more than rounding.
    """
    turns = find_trial_turns(model)
    packed_evidence, plain_evidence = packed.measure(turns), plain.measure(turns)
    differences = {side: _differences(packed_evidence, plain_evidence, side) for side in SIDES}
    differences = {side: values for side, values in differences.items() if len(values)}
    # numpy's maximum is NaN where one of them is; Python's depends on the order
    largest = float(np.concatenate(list(differences.values())).max())
    is_half = torch.finfo(model.vlm.dtype).bits < 32
    if not largest <= (ROUNDING_IN_HALF if is_half else ROUNDING):  # a difference may be NaN
        raise PackingError(f"its scores would differ by {largest:.2g} nats")
    if not is_half:
        return
    perturbed_evidence = []
    for seed in range(NUM_PERTURBATIONS):
        with perturb_rounding(model.vlm, seed):
            perturbed_evidence.append(plain.measure(turns))
    for side, values in differences.items():
        changes = [
            _differences(perturbed, plain_evidence, side) for perturbed in perturbed_evidence
        ]
        mean, rounding = float(values.mean()), float(np.mean(changes))
        if not mean <= max(ROUNDING, ROUNDINGS * rounding):
            raise PackingError(
                f"its scores would differ by {mean:.2g} nats a token, and rounding explains "
                f"{rounding:.2g}"
            )


def _differences(
    left: Sequence[AnswerEvidence], right: Sequence[AnswerEvidence], side: str
) -> NDArray[np.floating[Any]]:
    """By how much the ln p of each token of the answers differ on one side, in nats.

    A side that one of them has of an answer and the other has not differs by NaN.
    """
    differences: list[NDArray[np.floating[Any]]] = [np.empty(0)]
    for pair in zip(left, right, strict=True):
        a, b = (getattr(evidence, side) for evidence in pair)
        if a is not None and b is not None:
            differences.append(np.abs(a - b))
        elif a is not None or b is not None:
            differences.append(np.array([np.nan]))
    return np.concatenate(differences)
