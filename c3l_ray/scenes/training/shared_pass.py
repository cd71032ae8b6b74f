"""Many turns about a scene from one pass over its image.

Every conversation about a scene begins the same: `<s> USER : <image> x 36`. That beginning goes
through the language half once, and its keys and values are the cache that each of the scene's
branches goes on from. A branch is the rest of a conversation: question, answer, end of sequence.
Its loss is what it would be in a row of its own, gradients included, at a fraction of the work.

Shape letters: B scenes, N all scenes, P patches, R branches, H heads, T tokens, D a width, K answer
tokens, V the vocabulary.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache, LlavaForConditionalGeneration, LlavaProcessor

from c3l_ray.methods import c3l, vigc
from c3l_ray.methods.sentences import split_sentences
from c3l_ray.scenes.draw import Scene
from c3l_ray.scenes.language import draw_turn

GROUP = 16  # branches in one forward pass, of like length so that little is padded


@dataclass(frozen=True, kw_only=True)
class Branch:
    """The rest of a conversation.

    Attributes:
        ids: question, answer and end of sequence.
        start: where the answer begins in them.
        shown: whether it sees the image.
    """

    ids: list[int]
    start: int
    shown: bool


def posed(kind: str, rng: random.Random) -> str:
    """What the main job asks for a turn of this kind, in one of C3L's or VIGC's wordings."""
    return c3l.format_instruction(rng.choice(vigc.TAUGHT_INSTRUCTIONS[kind]))


def continued(kind: str, question: str, answer: str, rng: random.Random) -> tuple[str, str]:
    """What VIC asks in a fresh context when some of an answer is there, and what comes next."""
    all_sentences = split_sentences(answer)
    num_accepted = rng.randint(1, len(all_sentences))
    state = vigc.CorrectionState(
        rules=vigc.CorrectionRules(context="fresh", style=rng.choice(("vic", "vig"))),
        turn=c3l.TurnRequest(kind=kind, instruction=posed(kind, rng), seed=0),
        question=question,
        accepted=tuple(f" {sentence}" for sentence in all_sentences[:num_accepted]),
    )
    request = vigc.next_request(state)
    assert request is not None
    return request.message, [*all_sentences, vigc.END_WORD][num_accepted]


class Learner:
    """The loss of projector and language half on turns about scenes, their features given."""

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
        self.head = [tokenizer.bos_token_id, *self.encode("USER:")]
        self.end = tokenizer.eos_token_id

    def loss(self, num_scenes: int, tasks: Sequence[str], *, by_turn: bool) -> Tensor:
        """Mean negative log-likelihood of the answers' tokens and the end of sequence.

        Args:
            num_scenes: scenes to draw.
            tasks: what is drawn for each of them, a branch each.
            by_turn: whether every turn weighs the same, and not every token.
        """
        picked = self.rng.sample(range(len(self.scenes)), num_scenes)
        branches = [
            (row, self.branch(self.scenes[i], task))
            for row, i in enumerate(picked)
            for task in tasks
        ]
        with torch.autocast("cpu", torch.bfloat16):
            return self.weighed(picked, branches, by_turn=by_turn)

    def branch(self, scene: Scene, task: str) -> Branch:
        """A true turn about the scene: "posed" by the model itself as the main job asks it to,
        "asked" of it or "reasoned", its "caption", asked "text_only", or "continued" from its first
        sentences; or no turn, but what answers rest on: a thing "found" by its shape.
        """
        if task == "found":
            return self.found(scene)
        kinds = {
            "caption": ("detail",),
            "reasoned": ("reasoning",),
            "continued": tuple(vigc.INSTRUCTIONS),
        }
        kind = self.rng.choice(kinds.get(task, c3l.KINDS))
        question, answer = draw_turn(scene, kind, self.rng)
        message, said = question, list[int]()
        if task == "posed":
            message = posed(kind, self.rng)
            said = [
                *self.encode(" Question:"),
                *self.encode(f" {question}"),
                *self.encode(" Answer:"),
            ]
        elif task == "continued":
            message, answer = continued(kind, question, answer, self.rng)
        asked = [*self.encode(f" {message}"), *self.encode(" ASSISTANT:")]
        # By sentences, of which there are few, so that the cache holds nearly all of them.
        for sentence in split_sentences(answer):
            said += self.encode(f" {sentence}")
        return Branch(ids=[*asked, *said, self.end], start=len(asked), shown=task != "text_only")

    def found(self, scene: Scene) -> Branch:
        """A shape, and then the size, the colour and the place of the first thing that has it."""
        thing = self.rng.choice(scene.things)
        first = next(each for each in scene.things if each.shape == thing.shape)
        said = self.encode(f" {first.shape} {first.size} {first.colour} {first.cell}")
        return Branch(ids=[*said, self.end], start=1, shown=True)

    def weighed(
        self, picked: list[int], branches: list[tuple[int, Branch]], *, by_turn: bool
    ) -> Tensor:
        """Mean negative log-likelihood of the answers, over tokens or over turns.

        Args:
            picked: the scenes, as indices into those that are learned from.
            branches: each with the index of its scene among the picked.
            by_turn: as in `loss`.
        """
        sums = []
        for shown in (True, False):
            group = [(row, branch) for row, branch in branches if branch.shown == shown]
            group.sort(key=lambda each: len(each[1].ids))
            begun = self._begun(picked if shown else []) if group else []
            sums += [
                self._sum(begun, group[at : at + GROUP], by_turn=by_turn)
                for at in range(0, len(group), GROUP)
            ]
        lengths = [len(branch.ids) - branch.start for _, branch in branches]
        return torch.stack(sums).sum() / (len(lengths) if by_turn else sum(lengths))

    def _begun(self, picked: list[int]) -> list[tuple[Tensor, Tensor]]:
        """Keys and values, layer by layer, of how the conversations about these scenes begin: each
        [B, H, T, D]. Without scenes, of how one without an image does: B = 1.
        """
        embeds_BTD = self.model.get_input_embeddings()(
            torch.tensor([self.head] * (len(picked) or 1))
        )
        if picked:
            images_BPD = self.model.model.multi_modal_projector(self.features_NPD[picked].float())
            embeds_BTD = torch.cat([embeds_BTD, images_BPD], dim=1)
        begun = self.model.model.language_model(inputs_embeds=embeds_BTD, use_cache=True)
        return [(layer.keys, layer.values) for layer in begun.past_key_values.layers]

    def _sum(
        self,
        begun: list[tuple[Tensor, Tensor]],
        branches: list[tuple[int, Branch]],
        *,
        by_turn: bool,
    ) -> Tensor:
        longest = max(len(branch.ids) for _, branch in branches)
        ids_RT = torch.zeros(len(branches), longest, dtype=torch.long)
        answers_RT = torch.zeros_like(ids_RT, dtype=torch.bool)
        for row, (_, branch) in enumerate(branches):
            ids_RT[row, : len(branch.ids)] = torch.tensor(branch.ids)
            answers_RT[row, branch.start : len(branch.ids)] = True
        of = [row if branch.shown else 0 for row, branch in branches]
        past = DynamicCache()
        for layer, (keys_BHTD, values_BHTD) in enumerate(begun):
            past.update(keys_BHTD[of], values_BHTD[of], layer)
        # Branches are padded on the right, so the causal mask alone keeps real tokens clean.
        hidden_RTD = self.model.model.language_model(
            input_ids=ids_RT, past_key_values=past, use_cache=True
        ).last_hidden_state
        logits_KV = self.model.lm_head(hidden_RTD[:, :-1][answers_RT[:, 1:]])
        losses_K = F.cross_entropy(
            logits_KV.float(), ids_RT[:, 1:][answers_RT[:, 1:]], reduction="none"
        )
        if by_turn:
            lengths_RT = answers_RT.sum(dim=1, keepdim=True).expand_as(answers_RT)
            losses_K = losses_K / lengths_RT[answers_RT]
        return losses_K.sum()
