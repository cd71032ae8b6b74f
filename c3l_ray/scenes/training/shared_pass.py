"""Trains on many turns about a scene with one pass over its image.

All conversations about a scene begin alike: `<s> USER : <image> x 36`. This prefix goes through the
language half once, and its keys and values are the cache that each of the scene's branches
continues. A branch is the rest of a conversation: question, answer, end of sequence. Its loss and
its gradients are those of a row of its own, at a fraction of the work.

Shape letters: B scenes, N all scenes, P patches, R branches, H heads, T tokens, D a width, K answer
tokens, V the vocabulary.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache, LlavaForConditionalGeneration, LlavaProcessor

from c3l_ray.methods import c3l, vigc
from c3l_ray.methods.sentences import split_sentences
from c3l_ray.scenes.draw import Scene
from c3l_ray.scenes.language import draw_turn

BRANCHES_PER_PASS = 16  # of similar length, so that little is padded

Task = Literal["answer", "pose", "reason", "caption", "continue", "text_only", "find"]
"""What a branch teaches.

To "answer" a question, to "reason", to "caption" the image; to "pose" a question as the main job
asks and answer it; to "continue" an answer as VIC asks; to answer "text_only", without the image;
to "find" a thing by its shape, which is no turn, but what answers rest on.
"""

TASK_KINDS: dict[Task, tuple[str, ...]] = {
    "caption": ("detail",),
    "reason": ("reasoning",),
    "continue": tuple(vigc.INSTRUCTIONS),
}
"""The kinds of turns that a task draws from, where not from all."""

KeysAndValues = tuple[Tensor, Tensor]
"""The keys and values of one layer, each [B, H, T, D]."""


@dataclass(frozen=True, kw_only=True)
class Branch:
    """The rest of a conversation.

    Attributes:
        ids: question, answer and end of sequence.
        answer_start: where the answer begins in them.
        sees_image: whether the image is part of the prefix.
    """

    ids: list[int]
    answer_start: int
    sees_image: bool


def draw_instruction(kind: str, rng: random.Random) -> str:
    """What the main job asks for a turn of this kind, in one of C3L's or VIGC's wordings."""
    return c3l.format_instruction(rng.choice(vigc.TAUGHT_INSTRUCTIONS[kind]))


def draw_continuation(kind: str, question: str, answer: str, rng: random.Random) -> tuple[str, str]:
    """What VIC asks in a fresh context after some sentences of an answer, and what comes next."""
    sentences = split_sentences(answer)
    num_accepted = rng.randint(1, len(sentences))
    state = vigc.CorrectionState(
        rules=vigc.CorrectionRules(context="fresh", style=rng.choice(("vic", "vig"))),
        turn=c3l.TurnRequest(kind=kind, instruction=draw_instruction(kind, rng), seed=0),
        question=question,
        accepted=tuple(f" {sentence}" for sentence in sentences[:num_accepted]),
    )
    request = vigc.next_request(state)
    assert request is not None
    return request.message, [*sentences, vigc.END_WORD][num_accepted]


class SharedPassLoss:
    """The loss of the projector and the language half on turns about scenes.

    Args:
        model: to train.
        processor: of the model.
        scenes: to draw turns about.
        features_NPD: of the scenes' patches, from the frozen tower.
        rng: that scenes and turns are drawn with.
    """

    def __init__(
        self,
        model: LlavaForConditionalGeneration,
        processor: LlavaProcessor,
        scenes: list[Scene],
        features_NPD: Tensor,
        rng: random.Random,
    ) -> None:
        self.model = model
        self.processor = processor
        self.scenes = scenes
        self.features_NPD = features_NPD
        self.rng = rng
        tokenizer = processor.tokenizer
        self.encode = cache(lambda text: tokenizer(text, add_special_tokens=False)["input_ids"])
        self.prefix_ids = [tokenizer.bos_token_id, *self.encode("USER:")]
        self.end_id = tokenizer.eos_token_id

    def draw_loss(self, num_scenes: int, tasks: Sequence[Task], *, average_turns: bool) -> Tensor:
        """Draws turns, and computes their mean negative log-likelihood.

        Args:
            num_scenes: scenes to draw.
            tasks: of the branches of each scene.
            average_turns: whether every turn has the same weight, and not every token.
        """
        scene_indices = self.rng.sample(range(len(self.scenes)), num_scenes)
        branches = [
            (row, self.draw_branch(self.scenes[i], task))
            for row, i in enumerate(scene_indices)
            for task in tasks
        ]
        with torch.autocast("cpu", torch.bfloat16):
            return self.compute_loss(scene_indices, branches, average_turns=average_turns)

    def draw_branch(self, scene: Scene, task: Task) -> Branch:
        """Draws what a task teaches about the scene: a true turn, or the look of a thing."""
        if task == "find":
            return self._draw_find_branch(scene)
        kind = self.rng.choice(TASK_KINDS.get(task, c3l.KINDS))
        question, answer = draw_turn(scene, kind, self.rng)
        message, reply_ids = question, list[int]()
        if task == "pose":
            message = draw_instruction(kind, self.rng)
            reply_ids = [
                *self.encode(" Question:"),
                *self.encode(f" {question}"),
                *self.encode(" Answer:"),
            ]
        elif task == "continue":
            message, answer = draw_continuation(kind, question, answer, self.rng)
        message_ids = [*self.encode(f" {message}"), *self.encode(" ASSISTANT:")]
        # By sentences, of which there are few, so that the cache holds nearly all of them.
        for sentence in split_sentences(answer):
            reply_ids += self.encode(f" {sentence}")
        return Branch(
            ids=[*message_ids, *reply_ids, self.end_id],
            answer_start=len(message_ids),
            sees_image=task != "text_only",
        )

    def _draw_find_branch(self, scene: Scene) -> Branch:
        """A shape, and then the size, the colour and the place of the first thing that has it."""
        shape = self.rng.choice(scene.things).shape
        first = next(thing for thing in scene.things if thing.shape == shape)
        ids = self.encode(f" {first.shape} {first.size} {first.colour} {first.cell}")
        return Branch(ids=[*ids, self.end_id], answer_start=1, sees_image=True)

    def compute_loss(
        self,
        scene_indices: list[int],
        branches: list[tuple[int, Branch]],
        *,
        average_turns: bool,
    ) -> Tensor:
        """Mean negative log-likelihood of the answers' tokens and the end of sequence.

        Args:
            scene_indices: of the drawn scenes, among all scenes.
            branches: each with the row of its scene among the drawn ones.
            average_turns: as in `draw_loss`.
        """
        sums = []
        for sees_image in (True, False):
            group = [(row, branch) for row, branch in branches if branch.sees_image == sees_image]
            if not group:
                continue
            group.sort(key=lambda row_and_branch: len(row_and_branch[1].ids))
            prefix = self._run_prefix(scene_indices if sees_image else [])
            sums += [
                self._sum_losses(
                    prefix, group[start : start + BRANCHES_PER_PASS], average_turns=average_turns
                )
                for start in range(0, len(group), BRANCHES_PER_PASS)
            ]
        lengths = [len(branch.ids) - branch.answer_start for _, branch in branches]
        return torch.stack(sums).sum() / (len(lengths) if average_turns else sum(lengths))

    def _run_prefix(self, scene_indices: list[int]) -> list[KeysAndValues]:
        """The keys and values of each layer for how the conversations about the scenes begin.

        Without scenes, those of a conversation without an image: B = 1.
        """
        embeds_BTD = self.model.get_input_embeddings()(
            torch.tensor([self.prefix_ids] * (len(scene_indices) or 1))
        )
        if scene_indices:
            features_BPD = self.features_NPD[scene_indices].float()
            images_BPD = self.model.model.multi_modal_projector(features_BPD)
            embeds_BTD = torch.cat([embeds_BTD, images_BPD], dim=1)
        output = self.model.model.language_model(inputs_embeds=embeds_BTD, use_cache=True)
        return [(layer.keys, layer.values) for layer in output.past_key_values.layers]

    def _sum_losses(
        self,
        prefix: list[KeysAndValues],
        branches: list[tuple[int, Branch]],
        *,
        average_turns: bool,
    ) -> Tensor:
        """The sum over answer tokens of their losses, or over turns of their mean losses."""
        longest = max(len(branch.ids) for _, branch in branches)
        ids_RT = torch.zeros(len(branches), longest, dtype=torch.long)
        is_answer_RT = torch.zeros_like(ids_RT, dtype=torch.bool)
        for row, (_, branch) in enumerate(branches):
            ids_RT[row, : len(branch.ids)] = torch.tensor(branch.ids)
            is_answer_RT[row, branch.answer_start : len(branch.ids)] = True
        prefix_rows = [row if branch.sees_image else 0 for row, branch in branches]
        key_value_cache = DynamicCache()
        for layer, (keys_BHTD, values_BHTD) in enumerate(prefix):
            key_value_cache.update(keys_BHTD[prefix_rows], values_BHTD[prefix_rows], layer)
        # Branches are padded on the right, so the causal mask alone keeps real tokens clean.
        hidden_RTD = self.model.model.language_model(
            input_ids=ids_RT, past_key_values=key_value_cache, use_cache=True
        ).last_hidden_state
        logits_KV = self.model.lm_head(hidden_RTD[:, :-1][is_answer_RT[:, 1:]])
        losses_K = F.cross_entropy(
            logits_KV.float(), ids_RT[:, 1:][is_answer_RT[:, 1:]], reduction="none"
        )
        if average_turns:
            lengths_RT = is_answer_RT.sum(dim=1, keepdim=True).expand_as(is_answer_RT)
            losses_K = losses_K / lengths_RT[is_answer_RT]
        return losses_K.sum()
