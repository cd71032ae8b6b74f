"""The losses of three images, against numpy from the bare model's outputs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForImageTextToText

from c3l_ray.scenes import world
from c3l_ray.schema import Record, Turn
from c3l_ray.train.learning import losses
from c3l_ray.train.learning.learner import Learner
from c3l_ray.train.learning.loading import load_learner
from c3l_ray.train.mixture_config import Mixture
from c3l_ray.train.objectives import Contrast
from c3l_ray.train.reading.batches import model_inputs
from c3l_ray.train.reading.encode import encode_batch, load_processor
from c3l_ray.train.reading.examples import make_instruction_and_reply
from c3l_ray.train.reading.mixture import DRAW_RANGE, TurnDraw
from c3l_ray.train.training_config import TrainConfig
from tests.train.learning.builders import CPU, encode_scenes
from tests.train.records import MakeTrainConfig, make_record

Numbers = NDArray[np.float64]
IMAGE_TOKEN = 4


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a reference needs of three images.

    Attributes:
        records: of the images.
        learner: that computed the losses.
        ids: of the tokens [R, T].
        logits: at each token [R, T, V].
        embeddings: of each token [R, T, D], before the first layer.
        hidden_states: of each token [R, T, D], after the last layer.
    """

    records: list[Record]
    learner: Learner
    ids: NDArray[np.int64]
    logits: Numbers
    embeddings: Numbers
    hidden_states: Numbers

    def find_tokens(self, row: int, text: str) -> list[int]:
        """Where the tokens of a text stand in a row."""
        tokenizer = load_processor(str(world.LLAVA)).tokenizer
        wanted = tokenizer(f" {text}", add_special_tokens=False)["input_ids"]
        ids = self.ids[row].tolist()
        (start,) = [i for i in range(len(ids)) if ids[i : i + len(wanted)] == wanted]
        return list(range(start, start + len(wanted)))

    def compute_nll(self, row: int, reply: str) -> float:
        """The mean of -ln p over a reply's tokens and its end."""
        positions = self.find_tokens(row, reply)
        positions.append(positions[-1] + 1)
        logits = self.logits[row]
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return -float(np.mean([log_p[t - 1, self.ids[row][t]] for t in positions]))


def compute_sums(
    config: TrainConfig, draws: list[TurnDraw] | None = None
) -> tuple[dict[str, float], Reference]:
    """What the learner measures of three images, and what a reference needs."""
    records = [make_record(number) for number in range(3)]
    (micro_batch,) = encode_batch(
        records, config, {}, num_workers=1, accumulation_steps=1, draws=draws
    )
    learner = load_learner(config, torch.float32, CPU)
    sums = {name: value.item() for name, value in learner(micro_batch).items()}
    bare_model = AutoModelForImageTextToText.from_pretrained(world.LLAVA)
    with torch.no_grad():
        output = bare_model(**model_inputs(micro_batch), output_hidden_states=True)
    return sums, Reference(
        records=records,
        learner=learner,
        ids=micro_batch["input_ids"].numpy(),
        logits=output.logits.double().numpy(),
        embeddings=output.hidden_states[0].double().numpy(),
        hidden_states=output.hidden_states[-1].double().numpy(),
    )


def order_turns(record: Record) -> list[Turn]:
    """The positive, and then the negatives."""
    return [record["turns"][place] for place in (1, 0, 2, 3, 4)]


def format_turn(turn: Turn) -> str:
    return f"Question: {turn['question']} Answer: {turn['answer']}"


def cosine(a: Numbers, b: Numbers) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("in_batch", [False, True])
@pytest.mark.parametrize("representation", ["hidden", "embedding"])
def test_c3l_is_info_nce_and_the_likelihood_of_the_positive(
    train_config: MakeTrainConfig, in_batch: bool, representation: Any
) -> None:
    contrast = Contrast(nll_weight=0.7, in_batch_negatives=in_batch, representation=representation)
    sums, reference = compute_sums(train_config(contrast=contrast))
    affine = reference.learner.affine
    weight, bias = (x.detach().double().numpy() for x in (affine.weight, affine.bias))

    def represent(row: int, text: str) -> Numbers:
        positions = reference.find_tokens(row, text)
        representation_D: Numbers
        if representation == "hidden":
            mean_D = reference.hidden_states[row][positions].mean(axis=0)
            representation_D = np.tanh(weight @ mean_D + bias)
        else:
            embedding_TD = reference.embeddings[row][positions]
            representation_D = np.tanh(embedding_TD @ weight.T + bias).mean(axis=0)
        return representation_D

    anchors, turns, likelihoods = [], [], []
    for image, record in enumerate(reference.records):
        ordered = order_turns(record)
        anchors.append(represent(5 * image, ordered[0]["instruction"]))
        turns.append([represent(5 * image + j, format_turn(t)) for j, t in enumerate(ordered)])
        likelihoods.append(reference.compute_nll(5 * image, format_turn(ordered[0])))
    expected = []
    for image in range(3):
        terms = [np.exp(cosine(anchors[image], turn) / 0.2) for turn in turns[image]]
        other_turns = [turn for other in range(3) if other != image for turn in turns[other]]
        other_terms = [np.exp(cosine(anchors[image], turn) / 0.2) for turn in other_turns]
        total = sum(terms) + (sum(other_terms) if in_batch else 0)
        expected.append(-np.log(terms[0] / total))
    assert sums["images"] == 3
    assert sums["contrastive"] == pytest.approx(sum(expected), abs=1e-4)
    assert sums["nll"] == pytest.approx(sum(likelihoods), abs=1e-4)
    assert sums["loss"] == pytest.approx(sum(expected) + 0.7 * sum(likelihoods), abs=1e-4)
    similarity = sum(cosine(anchors[image], turns[image][0]) for image in range(3))
    assert sums["positive_similarity"] == pytest.approx(similarity, abs=1e-4)


def test_likelihoods_contrast_turns_as_they_were_made(train_config: MakeTrainConfig) -> None:
    contrast = Contrast(similarity="likelihood", nll_weight=0.7, temperature=0.5)
    sums, reference = compute_sums(train_config(contrast=contrast))
    tokenizer = load_processor(str(world.LLAVA)).tokenizer
    contrastive, positives, negatives = [], [], []
    for image, record in enumerate(reference.records):
        ordered = order_turns(record)
        rows = range(5 * image, 5 * image + 5)
        for row, turn in zip(rows, ordered, strict=True):
            assert turn["instruction"] in tokenizer.decode(reference.ids[row])
        likelihood = [
            -reference.compute_nll(row, format_turn(turn))
            for row, turn in zip(rows, ordered, strict=True)
        ]
        terms = np.exp(np.array(likelihood) / 0.5)
        contrastive.append(-np.log(terms[0] / terms.sum()))
        positives.append(likelihood[0])
        negatives.append(np.mean(likelihood[1:]))
    assert sums["contrastive"] == pytest.approx(sum(contrastive), abs=1e-4)
    assert sums["loss"] == pytest.approx(sum(contrastive) - 0.7 * sum(positives), abs=1e-4)
    assert sums["positive_similarity"] == pytest.approx(sum(positives), abs=1e-4)
    assert sums["negative_similarity"] == pytest.approx(sum(negatives), abs=1e-4)


def test_cgvlm_is_the_averaged_cosine_both_ways_and_the_likelihood_of_the_caption(
    train_config: MakeTrainConfig,
) -> None:
    sums, reference = compute_sums(train_config(objective="cgvlm"))
    windows, tokens, likelihoods = [], [], []
    for image, record in enumerate(reference.records):
        caption, embeddings = str(record["caption"]), reference.embeddings[image]
        # 16 patches: no pooling to 36.
        windows.append(embeddings[reference.ids[image] == IMAGE_TOKEN])
        tokens.append(embeddings[reference.find_tokens(image, caption)])
        likelihoods.append(reference.compute_nll(image, caption))
    similarity = np.array(
        [[np.mean([[cosine(v, e) for e in E] for v in V]) for E in tokens] for V in windows]
    )
    terms = np.exp(similarity / 0.07)
    rows = -np.log(np.diag(terms) / terms.sum(axis=1))
    columns = -np.log(np.diag(terms) / terms.sum(axis=0))
    expected = float((rows + columns).sum() / 2)
    assert sums["contrastive"] == pytest.approx(expected, abs=1e-4)
    assert sums["nll"] == pytest.approx(sum(likelihoods), abs=1e-4)
    assert sums["loss"] == pytest.approx(expected + sum(likelihoods), abs=1e-4)


def test_vigc_is_the_likelihood_of_the_replies_and_their_ends(
    train_config: MakeTrainConfig,
) -> None:
    kinds = ("detail", "reasoning", "detail")
    places = [
        next(i for i, turn in enumerate(make_record(image)["turns"]) if turn["kind"] == kind)
        for image, kind in enumerate(kinds)
    ]
    numbers = (0, DRAW_RANGE - 1, DRAW_RANGE - 2)
    draws = [TurnDraw(place, number) for place, number in zip(places, numbers, strict=True)]
    sums, reference = compute_sums(train_config(objective="vigc"), draws)
    records = reference.records
    replies = [
        make_instruction_and_reply(record, Mixture(), draw)[1]
        for record, draw in zip(records, draws, strict=True)
    ]
    turns = [record["turns"][place] for record, place in zip(records, places, strict=True)]
    assert replies == [turns[0]["answer"], *map(format_turn, turns[1:])]
    expected = sum(reference.compute_nll(image, reply) for image, reply in enumerate(replies))
    assert sums == {
        "loss": pytest.approx(expected, abs=1e-4),
        "nll": pytest.approx(expected, abs=1e-4),
        "images": 3,
    }


def compute_under_autocast(config: TrainConfig, align: Any = None) -> None:
    """What a step computes, as on a GPU: the model in bfloat16."""
    learner = load_learner(config, torch.bfloat16, CPU).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sums = learner(encode_scenes(config, 0, 1), *([align] if align else []))
    assert all(value.dtype == torch.float32 for value in sums.values())


def test_cosines_are_float32_whatever_autocast_says(
    train_config: MakeTrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[torch.Tensor, ...]] = []

    def record(anchor_BD: torch.Tensor, turn_RD: torch.Tensor) -> torch.Tensor:
        cosine_BR = cosine_similarity(anchor_BD, turn_RD)
        compared.append((anchor_BD.detach(), turn_RD.detach(), cosine_BR.detach()))
        return cosine_BR

    cosine_similarity = losses.cosine_similarity
    monkeypatch.setattr(losses, "cosine_similarity", record)
    compute_under_autocast(train_config())
    ((anchor_BD, turn_RD, cosine_BR),) = compared
    expected_BR = torch.cosine_similarity(anchor_BD.double()[:, None], turn_RD.double(), dim=-1)
    # In bfloat16 they were 0.002 off on average, where an image's differ by 0.04.
    assert (cosine_BR - expected_BR).abs().max() < 1e-6
    values = turn_RD.unique()
    assert (values.bfloat16().float() != values).any(), "the representations are bfloat16's"


def test_alignment_is_float32_whatever_autocast_says(train_config: MakeTrainConfig) -> None:
    own_similarities: list[tuple[torch.Tensor, torch.Tensor]] = []

    def align(
        image_BD: torch.Tensor, text_BD: torch.Tensor, weight_B: torch.Tensor, tau: torch.Tensor
    ) -> Any:
        terms = losses.two_sided_alignment(image_BD, text_BD, weight_B, tau)
        expected_B = (image_BD.double() * text_BD.double()).sum(dim=1)
        own_similarities.append((terms[1].detach(), expected_B.detach()))
        return terms

    compute_under_autocast(train_config(objective="cgvlm"), align)
    ((own_B, expected_B),) = own_similarities
    assert (own_B - expected_B).abs().max() < 1e-6
