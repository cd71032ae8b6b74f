"""Branches that go on from a shared beginning against rows of their own."""

import random

import pytest
import torch
from torch.nn import functional as F

from c3l_ray.chat import answer_prompt, answered, token_ids
from c3l_ray.methods import c3l, vigc
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.language import draw_turn
from c3l_ray.scenes.training import train_llava, shared_pass
from c3l_ray.scenes.training.tokenizer import IMAGE_TOKEN, all_texts, word_tokenizer

TASKS = ("posed", "asked", "caption", "text_only")


@pytest.fixture(scope="module")
def learner() -> shared_pass.Learner:
    torch.manual_seed(0)
    processor = train_llava.new_processor(word_tokenizer(all_texts(), end=False))
    model = train_llava.new_llava(processor.tokenizer)
    scenes = [draw_scene(seed) for seed in range(12)]
    features_NPD = torch.randn(len(scenes), 36, model.config.vision_config.hidden_size).half()
    return shared_pass.Learner(model, processor, scenes, features_NPD, random.Random(0))


def row_loss(learner: shared_pass.Learner, scene: int, branch: shared_pass.Branch) -> torch.Tensor:
    """Summed over the answer, of a forward pass over nothing but this conversation."""
    model = learner.model
    image = [model.config.image_token_id] * 36 if branch.shown else []
    ids_1T = torch.tensor([[*learner.head, *image, *branch.ids]])
    embeds_1TD = model.get_input_embeddings()(ids_1T)
    if branch.shown:
        images_1PD = model.model.multi_modal_projector(learner.features_NPD[[scene]].float())
        embeds_1TD[:, len(learner.head) :][:, :36] = images_1PD
    hidden_1TD = model.model.language_model(inputs_embeds=embeds_1TD).last_hidden_state
    logits_TV = model.lm_head(hidden_1TD)[0]
    num_answer = len(branch.ids) - branch.start
    return F.cross_entropy(
        logits_TV[-num_answer - 1 : -1], torch.tensor(branch.ids[-num_answer:]), reduction="sum"
    )


def grads(learner: shared_pass.Learner) -> torch.Tensor:
    found = [p.grad.flatten() for p in learner.model.parameters() if p.grad is not None]
    learner.model.zero_grad()
    return torch.cat(found)


@pytest.mark.parametrize("by_turn", [False, True], ids=["by token", "by turn"])
@pytest.mark.parametrize("tasks", [TASKS, ("posed",) * 3, ("text_only",) * 2], ids=str)
def test_branches_lose_what_rows_of_their_own_do(
    learner: shared_pass.Learner, tasks: tuple[str, ...], by_turn: bool
) -> None:
    picked = [3, 8, 5]
    branches = [
        (row, learner.branch(learner.scenes[i], task))
        for row, i in enumerate(picked)
        for task in tasks
    ]
    lengths = [len(branch.ids) - branch.start for _, branch in branches]
    sums = [row_loss(learner, picked[row], branch) for row, branch in branches]
    if by_turn:
        alone = torch.stack([s / n for s, n in zip(sums, lengths, strict=True)]).mean()
    else:
        alone = torch.stack(sums).sum() / sum(lengths)
    alone.backward()
    expected = grads(learner)
    together = learner.weighed(picked, branches, by_turn=by_turn)
    together.backward()
    assert together.item() == pytest.approx(alone.item(), rel=1e-5)
    assert torch.allclose(grads(learner), expected, atol=1e-3 * float(expected.abs().max()))


def test_sixteen_bits_change_little(learner: shared_pass.Learner) -> None:
    learner.rng.seed(3)
    loss = learner.loss(6, TASKS, by_turn=False)
    learner.rng.seed(3)
    picked = learner.rng.sample(range(12), 6)
    branches = [
        (row, learner.branch(learner.scenes[i], task))
        for row, i in enumerate(picked)
        for task in TASKS
    ]
    exact = learner.weighed(picked, branches, by_turn=False)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-2)


@pytest.mark.parametrize("task", [*TASKS, "reasoned", "continued"])
@pytest.mark.parametrize("seed", range(8))
def test_a_branch_is_the_chat_as_everyone_renders_it(
    learner: shared_pass.Learner, task: str, seed: int
) -> None:
    scene = draw_scene(seed)
    learner.rng.seed(seed)
    branch = learner.branch(scene, task)
    rng = random.Random(seed)
    kinds = {"caption": ("detail",), "reasoned": ("reasoning",), "continued": (*vigc.INSTRUCTIONS,)}
    kind = rng.choice(kinds.get(task, c3l.KINDS))
    question, answer = draw_turn(scene, kind, rng)
    if task == "posed":
        answer = f"Question: {question} Answer: {answer}"
        question = shared_pass.posed(kind, rng)
    elif task == "continued":
        question, answer = shared_pass.continued(kind, question, answer, rng)
    shown = task != "text_only"
    text, _ = answered(learner.processor, question, answer, image=shown)
    prompt = answer_prompt(learner.processor, question, image=shown)
    ids, before = (
        token_ids(learner.processor.tokenizer, each.replace(IMAGE_TOKEN, IMAGE_TOKEN * 36))
        for each in (text, prompt)
    )
    begun = [*learner.head, *[learner.model.config.image_token_id] * 36 * shown]
    assert [*begun, *branch.ids] == ids
    assert len(begun) + branch.start == len(before)
    assert learner.processor.tokenizer.unk_token_id not in ids


def test_what_is_posed_is_what_the_methods_ask() -> None:
    asked = {shared_pass.posed("detail", random.Random(seed)) for seed in range(300)}
    assert asked == {f"{each} {c3l.FORMATS['text']}" for each in vigc.INSTRUCTIONS["detail"]}


def test_what_is_found_is_the_first_of_its_shape(learner: shared_pass.Learner) -> None:
    scene = draw_scene(5)
    looks = {
        f"{thing.shape} {thing.size} {thing.colour} {thing.cell}": place
        for place, thing in enumerate(scene.things)
    }
    for _ in range(50):
        branch = learner.branch(scene, "found")
        said = learner.processor.tokenizer.decode(branch.ids[:-1]).strip()
        first = next(i for i, thing in enumerate(scene.things) if said.startswith(thing.shape))
        assert looks[said] == first and branch.shown
        assert (branch.start, branch.ids[-1]) == (1, learner.end)
