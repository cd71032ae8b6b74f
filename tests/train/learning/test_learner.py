"""The losses of three images, against numpy from the bare model's outputs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText

from c3l_ray.errors import PreflightError
from c3l_ray.scenes import world
from c3l_ray.train.learning import learner
from c3l_ray.train.reading.batches import inputs_of
from c3l_ray.train.training_config import Contrast, TrainConfig, Tuned
from c3l_ray.train.reading.encode import encode, load_processor
from c3l_ray.train.reading.examples import Draw, instructed
from c3l_ray.train.reading.mixture import NUM_LOTS, Mixture
from tests.train.records import record

Make = Callable[..., TrainConfig]
Numbers = np.ndarray[Any, np.dtype[np.float64]]


def computed(
    config: TrainConfig, draws: list[Draw | None] | None = None
) -> tuple[dict[str, float], dict[str, Any]]:
    """What the learner measures of three images, and what a reference needs."""
    records = [record(i) for i in range(3)]
    (share,) = encode(records, config, {}, num_workers=1, rounds=1, draws=draws)
    learner = learner.load(config, torch.float32, torch.device("cpu"))
    parts = {name: value.item() for name, value in learner(share).items()}
    bare = AutoModelForImageTextToText.from_pretrained(world.LLAVA)
    with torch.no_grad():
        output = bare(**inputs_of(share), output_hidden_states=True)
    numbers = {
        "ids": share["input_ids"].numpy(),
        "logits": output.logits.double().numpy(),
        "first": output.hidden_states[0].double().numpy(),
        "last": output.hidden_states[-1].double().numpy(),
        "records": records,
        "learner": learner,
    }
    return parts, numbers


def places(ids: Numbers, text: str) -> list[int]:
    """Where the tokens of a text stand in a row, by their ids."""
    wanted = load_processor(str(world.LLAVA)).tokenizer(f" {text}", add_special_tokens=False)
    ids_of = wanted["input_ids"]
    (start,) = [i for i in range(len(ids)) if ids[i : i + len(ids_of)].tolist() == ids_of]
    return list(range(start, start + len(ids_of)))


def nll(numbers: dict[str, Any], row: int, reply: str) -> float:
    """The mean of -ln p over a reply's tokens and its end."""
    at = places(numbers["ids"][row], reply)
    at.append(at[-1] + 1)
    logits = numbers["logits"][row]
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -float(np.mean([log_p[t - 1, numbers["ids"][row][t]] for t in at]))


def reply_of(turn: dict[str, Any]) -> str:
    return f"Question: {turn['question']} Answer: {turn['answer']}"


def cosine(a: Numbers, b: Numbers) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("in_batch", [False, True])
@pytest.mark.parametrize("representation", ["hidden", "embedding"])
def test_c3l_is_info_nce_and_the_positives_likelihood(
    train_config: Make, in_batch: bool, representation: str
) -> None:
    contrast = Contrast(
        nll_weight=0.7,
        in_batch_negatives=in_batch,
        representation=representation,  # type: ignore[arg-type]
    )
    parts, numbers = computed(train_config(contrast=contrast))
    affine = numbers["learner"].affine
    weight, bias = (x.detach().double().numpy() for x in (affine.weight, affine.bias))

    def represented(row: int, text: str) -> Numbers:
        at = places(numbers["ids"][row], text)
        if representation == "hidden":
            return np.tanh(weight @ numbers["last"][row][at].mean(axis=0) + bias)
        return np.tanh(numbers["first"][row][at] @ weight.T + bias).mean(axis=0)

    anchors, turns, likelihoods = [], [], []
    for image, made in enumerate(numbers["records"]):
        ordered = [made["turns"][1], *(made["turns"][place] for place in (0, 2, 3, 4))]
        anchors.append(represented(5 * image, ordered[0]["instruction"]))
        turns.append([represented(5 * image + j, reply_of(t)) for j, t in enumerate(ordered)])
        likelihoods.append(nll(numbers, 5 * image, reply_of(ordered[0])))
    expected = []
    for image in range(3):
        terms = [np.exp(cosine(anchors[image], turn) / 0.2) for turn in turns[image]]
        others = [turn for other in range(3) if other != image for turn in turns[other]]
        beside = [np.exp(cosine(anchors[image], turn) / 0.2) for turn in others]
        total = sum(terms) + (sum(beside) if in_batch else 0)
        expected.append(-np.log(terms[0] / total))
    assert parts["images"] == 3
    assert parts["contrastive"] == pytest.approx(sum(expected), abs=1e-4)
    assert parts["nll"] == pytest.approx(sum(likelihoods), abs=1e-4)
    assert parts["loss"] == pytest.approx(sum(expected) + 0.7 * sum(likelihoods), abs=1e-4)
    similarity = sum(cosine(anchors[image], turns[image][0]) for image in range(3))
    assert parts["positive_similarity"] == pytest.approx(similarity, abs=1e-4)


def test_likelihoods_contrast_turns_as_they_were_made(train_config: Make) -> None:
    contrast = Contrast(similarity="likelihood", nll_weight=0.7, temperature=0.5)
    parts, numbers = computed(train_config(contrast=contrast))
    tokenizer = load_processor(str(world.LLAVA)).tokenizer
    contrastive, positives, negatives = [], [], []
    for image, made in enumerate(numbers["records"]):
        ordered = [made["turns"][1], *(made["turns"][place] for place in (0, 2, 3, 4))]
        rows = range(5 * image, 5 * image + 5)
        for row, turn in zip(rows, ordered, strict=True):
            assert turn["instruction"] in tokenizer.decode(numbers["ids"][row])
        likelihood = [-nll(numbers, row, reply_of(t)) for row, t in zip(rows, ordered, strict=True)]
        terms = np.exp(np.array(likelihood) / 0.5)
        contrastive.append(-np.log(terms[0] / terms.sum()))
        positives.append(likelihood[0])
        negatives.append(np.mean(likelihood[1:]))
    assert parts["contrastive"] == pytest.approx(sum(contrastive), abs=1e-4)
    assert parts["loss"] == pytest.approx(sum(contrastive) - 0.7 * sum(positives), abs=1e-4)
    assert parts["positive_similarity"] == pytest.approx(sum(positives), abs=1e-4)
    assert parts["negative_similarity"] == pytest.approx(sum(negatives), abs=1e-4)


def test_cgvlm_is_the_averaged_cosine_both_ways_and_the_captions_likelihood(
    train_config: Make,
) -> None:
    parts, numbers = computed(train_config(objective="cgvlm"))
    image_token = 4
    windows, tokens, likelihoods = [], [], []
    for image, made in enumerate(numbers["records"]):
        ids = numbers["ids"][image]
        windows.append(numbers["first"][image][ids == image_token])  # 16 patches: no pooling to 36
        tokens.append(numbers["first"][image][places(ids, made["caption"])])
        likelihoods.append(nll(numbers, image, made["caption"]))
    similarity = np.array(
        [[np.mean([[cosine(v, e) for e in E] for v in V]) for E in tokens] for V in windows]
    )
    terms = np.exp(similarity / 0.07)
    rows = -np.log(np.diag(terms) / terms.sum(axis=1))
    columns = -np.log(np.diag(terms) / terms.sum(axis=0))
    expected = float((rows + columns).sum() / 2)
    assert parts["contrastive"] == pytest.approx(expected, abs=1e-4)
    assert parts["nll"] == pytest.approx(sum(likelihoods), abs=1e-4)
    assert parts["loss"] == pytest.approx(expected + sum(likelihoods), abs=1e-4)


def test_vigc_is_the_likelihood_of_the_replies_and_their_ends(train_config: Make) -> None:
    kinds = ("detail", "reasoning", "detail")
    places_ = [
        next(i for i, turn in enumerate(record(image)["turns"]) if turn["kind"] == kind)
        for image, kind in enumerate(kinds)
    ]
    draws: list[Draw | None] = list(zip(places_, (0, NUM_LOTS - 1, NUM_LOTS - 2), strict=True))
    parts, numbers = computed(train_config(objective="vigc"), draws)
    replies = [
        instructed(made, Mixture(), draw)[1]
        for made, draw in zip(numbers["records"], draws, strict=True)
    ]
    turns = [made["turns"][i] for made, i in zip(numbers["records"], places_, strict=True)]
    assert replies == [turns[0]["answer"], *map(reply_of, turns[1:])]
    expected = sum(nll(numbers, image, reply) for image, reply in enumerate(replies))
    assert parts == {
        "loss": pytest.approx(expected, abs=1e-4),
        "nll": pytest.approx(expected, abs=1e-4),
        "images": 3,
    }


@pytest.mark.parametrize(
    ("tune", "learns", "rests"),
    [
        ("lora", "lora_A", ("vision_tower", "multi_modal_projector", "lm_head", "base_layer")),
        ("full", "language_model.layers.0", ("vision_tower", "multi_modal_projector")),
        ("adapter", "multi_modal_projector", ("vision_tower", "language_model", "lm_head")),
    ],
)
def test_only_what_is_asked_for_learns(
    train_config: Make, tune: Any, learns: str, rests: tuple[str, ...]
) -> None:
    config = train_config(model=Tuned(name=str(world.LLAVA), tune=tune))
    names = [
        name for name, _ in learner.learning(learner.load(config, torch.float32, torch.device("cpu")))
    ]
    assert any(learns in name for name in names) and "affine.weight" in names
    assert not any(rest in name for name in names for rest in rests)


def test_computing_activations_twice_changes_no_gradient(train_config: Make) -> None:
    found = []
    for twice in (False, True):
        config = train_config(model=Tuned(name=str(world.LLAVA), activation_checkpointing=twice))
        (share,) = encode([record(0)], config, {}, num_workers=1, rounds=1)
        learner = learner.load(config, torch.float32, torch.device("cpu")).train()
        learner(share)["loss"].backward()
        found.append([weight.grad for _, weight in learner.learning(learner)])
    for once, again in zip(*found, strict=True):
        assert once is not None and again is not None and torch.allclose(once, again, atol=1e-6)


def test_a_model_without_an_adapter_of_a_known_name_is_refused() -> None:
    with pytest.raises(PreflightError, match="NAME: no vision adapter"):
        learner.adapter(torch.nn.Sequential(torch.nn.Linear(2, 2)), "NAME")
