"""Scores turns: every answer's probability with and without the image, under the scoring model."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import cast

import pyarrow as pa
import torch
from PIL import Image

from c3l_ray import chat
from c3l_ray.config import RecordsConfig
from c3l_ray.errors import ScorerFailure, UnusableImage, first_line
from c3l_ray.images import decode_image, make_baseline_image
from c3l_ray.inference.clip_scorer import ClipScorer
from c3l_ray.inference.faults import (
    Fault,
    FaultCount,
    advise_memory,
    measure_by_halves,
    wait_for_memory,
)
from c3l_ray.inference.model_check import untested_family_notes
from c3l_ray.inference.other_pictures import NO_OTHER_PICTURE, pair_with_other_pictures
from c3l_ray.inference.packed_scorer import PackedScorer
from c3l_ray.inference.packing import PackingError
from c3l_ray.inference.plain_scorer import PlainScorer
from c3l_ray.inference.score_targets import ScoreTarget, find_targets, mark_unscored
from c3l_ray.inference.scorer_checks import (
    AnswerScorer,
    check_causality,
    check_packing,
    compare_prompts,
    find_logit_transform,
    find_trial_turns,
)
from c3l_ray.inference.scoring_model import ScoringModel
from c3l_ray.methods import alternatives
from c3l_ray.methods.i2c import AnswerEvidence, compute_scores
from c3l_ray.schema import Scores, Turn, replace_columns
from c3l_ray.template_date import pin_date

log = logging.getLogger(__name__)


class TurnScorer:
    """Reads: image, turns, error, notes. Fills: turns, error, score_s, scoring, faults, notes.

    Each turn of status "ok" is scored: its answer, its draft, and its alternatives of status "ok".
    A turn of the kind "follow_up" is scored given the turns before it that came as "ok", and a turn
    made elsewhere given its system message. An answer or alternative that the scoring model cannot
    read as it is gets the status that says why (`ScoringModel.unscorable_status`); one that it
    cannot read as a reply to the turn's instruction has no `posed_logprob`, which is noted. The
    turns of a block with one picture keep null scores where the side without the image takes
    another picture.

    A turn or an alternative that the model fails on, out of memory or by its processor's refusal,
    gets the status "unscored"; one that CLIP fails on keeps a null `clip`. Either is a fault of its
    row.

    Attributes:
        notes: what the user should know about the scores, a sentence each.

    Raises:
        PreflightError: the scorer's numbers would not be the model's own.
        ScorerFailure: out of a call: the model fails on what it could compute at the start.
        C3LError: out of a call: the model, or CLIP, fails on every turn.
    """

    def __init__(self, config: RecordsConfig) -> None:
        self.config = config
        advice = advise_memory(config.pools)
        self.model, self.scorer, self.notes = wait_for_memory(
            lambda: load_scorer(config), f"the scorer {config.scorer_name}", advice
        )
        self.notes += compare_prompts(self.model)
        self.notes += untested_family_notes(self.model.name, self.model.family)
        self.takes_system_message = chat.takes_system_message(self.model.processor)
        self.clip = wait_for_memory(
            lambda: ClipScorer(config.clip), f"CLIP {config.clip.name}", advice
        )
        self.fault_counts = {
            "model": FaultCount(config.scorer_name),
            "clip": FaultCount(f"CLIP {config.clip.name}"),
        }
        for note in self.notes:
            log.warning(note)

    def __call__(self, table: pa.Table) -> pa.Table:
        started = time.monotonic()
        names = ("image", "turns", "error", "notes")
        data, turns, errors, notes = (table[name].to_pylist() for name in names)
        images: dict[int, Image.Image] = {}
        for row, error in enumerate(errors):
            if error is None:
                try:
                    images[row] = decode_image(data[row], self.config.max_pixels)  # for both models
                except UnusableImage as unusable:
                    errors[row] = str(unusable)
        targets: list[ScoreTarget] = []
        faults: dict[int, list[Fault]] = {row: [] for row in images}
        baseline_images = self.baseline_images(images)
        for row, baseline_image in baseline_images.items():
            try:
                targets += find_targets(self.model, row, turns[row], images[row], baseline_image)
            except Exception as error:  # whatever a chat template raises
                faults[row].append(Fault.from_error(error))
                mark_unscored(turns[row])
        self.write_scores(targets, faults)
        unit_notes = [*self.notes, *self.take_unpacked_notes(), *self.unposed_notes(targets)]
        if len(baseline_images) < len(images):
            unit_notes.append(NO_OTHER_PICTURE)
        if not self.takes_system_message and any(target.to_score.system for target in targets):
            unit_notes.append(
                f"the chat template of {self.model.name} takes no system message, so that it "
                "stands before the first question"
            )
        for row in images:
            alternatives.keep_best_answers(turns[row], self.config.kept_by)
            errors[row] = row_error(turns[row], faults[row])
        seconds = time.monotonic() - started
        return replace_columns(
            table,
            turns=turns,
            error=errors,
            score_s=[seconds] * len(errors),
            scoring=["packed" if isinstance(self.scorer, PackedScorer) else "plain"] * len(errors),
            faults=[[str(fault) for fault in faults.get(row, ())] for row in range(len(errors))],
            notes=[list(dict.fromkeys([*(earlier or []), *unit_notes])) for earlier in notes],
        )

    def baseline_images(self, images: dict[int, Image.Image]) -> dict[int, Image.Image | None]:
        """By row to score, the image of the side without its own; None leaves the image out."""
        baseline = self.config.scorer.baseline
        if baseline == "none":
            return dict.fromkeys(images)
        if baseline != "mismatched":
            return {row: make_baseline_image(image, baseline) for row, image in images.items()}
        return pair_with_other_pictures(images)

    def take_unpacked_notes(self) -> list[str]:
        """Notes on the images that did not fit packs since the last call."""
        if not isinstance(self.scorer, PackedScorer):
            return []
        reasons, self.scorer.unpacked_reasons = self.scorer.unpacked_reasons, set()
        return [
            f"{self.model.name} scored some images without packing: {reason}"
            for reason in sorted(reasons)
        ]

    def unposed_notes(self, targets: Sequence[ScoreTarget]) -> list[str]:
        """Notes on the answers that are not scored as replies to their instruction."""
        reasons = {target.unposed for target in targets if target.unposed is not None}
        return [
            f"{self.model.name} cannot read some turns as replies to their instruction ({reason}), "
            "so that they have no posed_logprob"
            for reason in sorted(reasons)
        ]

    def write_scores(
        self, targets: Sequence[ScoreTarget], faults: Mapping[int, list[Fault]]
    ) -> None:
        """Writes the scores of each target into its turn, and what failed to the row's faults."""
        evidence = measure_by_halves(targets, self.measure_evidence, _image_of)
        scored: list[tuple[ScoreTarget, AnswerEvidence]] = []
        for target, answer in zip(targets, evidence, strict=True):
            if isinstance(answer, Fault):
                faults[target.row].append(answer)
                target.set_status("unscored")
            elif answer is None:
                target.set_status("too_long")
            else:
                scored.append((target, answer))
                if target.to_score.instruction and answer.posed_logprobs is None:
                    target.unposed = "too_long"
        if self.fault_counts["model"].add(evidence):
            self.refuse_broken_model()
        cosines = measure_by_halves([target for target, _ in scored], self.cosines, _image_of)
        self.fault_counts["clip"].add(cosines)
        for (target, answer), cosine in zip(scored, cosines, strict=True):
            if isinstance(cosine, Fault):
                faults[target.row].append(Fault(f"clip_{cosine.reason}", cosine.detail))
            clip = None if isinstance(cosine, Fault) else cosine
            scores = cast(Scores, {**compute_scores(answer), "clip": clip})
            target.write_scores(scores)
            if self.config.token_gains and target.is_answer:
                target.turn["token_gains"] = answer.token_gains.tolist()

    def measure_evidence(self, targets: Sequence[ScoreTarget]) -> list[AnswerEvidence | None]:
        return self.scorer.measure_fitting([target.to_score for target in targets])

    def cosines(self, targets: Sequence[ScoreTarget]) -> list[float]:
        """The `clip` score of each target."""
        turns = [target.to_score for target in targets]
        texts = [f"{turn.question} {turn.answer}" for turn in turns]
        return self.clip.cosines([turn.image for turn in turns], texts)

    def refuse_broken_model(self) -> None:
        """Tells a model that fails on some turns from one that computes nothing any more.

        Raises:
            ScorerFailure: it fails on the trial turns, which it has scored at the start.
        """
        try:
            self.scorer.measure(find_trial_turns(self.model))
        except Exception as error:  # as of any other turn
            raise ScorerFailure(
                f"{self.model.name} fails on every turn, also on those that it could score when it "
                f"started: {Fault.from_error(error)}"
            ) from error


def row_error(turns: Sequence[Turn], faults: Sequence[Fault]) -> str | None:
    """Why an image has no good turn, or None where it has one."""
    statuses = {turn["status"] for turn in turns}
    if "ok" in statuses:
        return None
    if "unscored" in statuses and faults:
        return f"unscored: {faults[0]}"
    return f"no_turn: {', '.join(sorted(statuses)) or 'the row has no turns'}"


def load_scorer(config: RecordsConfig) -> tuple[ScoringModel, AnswerScorer, list[str]]:
    """The scoring model, how it scores, and notes on that.

    Raises:
        PreflightError: its numbers would not be the model's own.
        torch.OutOfMemoryError: the GPU has no memory for it now.
    """
    model = ScoringModel(config.scorer, config.scorer_name)
    pin_date(model.processor, config.prompt_date)
    model.logit_transform = find_logit_transform(model)
    return model, *choose_scorer(model, pack=config.scorer.pack)


def choose_scorer(model: ScoringModel, *, pack: bool) -> tuple[AnswerScorer, list[str]]:
    """The packed scorer, or the plain one where packs do not fit, with a note that says why.

    Whether packs fit, and several rows at once, is tried on the trial turns: a model's family alone
    does not tell. Memory does not tell either: what lacks now may be there in a minute.

    Raises:
        PreflightError: as `check_causality`.
        torch.OutOfMemoryError: the GPU has no memory for the trial turns now.
    """
    row_by_row = PlainScorer(model, one_by_one=True)
    check_causality(model, row_by_row)
    plain, notes = PlainScorer(model), []
    try:
        check_packing(model, plain, row_by_row)
    except torch.OutOfMemoryError:
        raise
    except (PackingError, TypeError, ValueError, RuntimeError) as error:
        plain = row_by_row
        notes = [f"{model.name} scores one turn at a time, which is slower: {first_line(error)}"]
    if not pack:
        return plain, notes
    try:
        packed = PackedScorer(model)
        packed.plain_scorer = plain
        check_packing(model, packed, plain)
    except torch.OutOfMemoryError:
        raise
    except (PackingError, TypeError, ValueError, RuntimeError) as error:
        note = f"{model.name} scores without packing, which is slower: {first_line(error)}"
        return plain, [*notes, note]
    return packed, notes


def _image_of(target: ScoreTarget) -> Image.Image:
    return target.to_score.image
