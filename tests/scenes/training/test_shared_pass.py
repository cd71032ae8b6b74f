"""Branches that continue a shared prefix, compared with rows of their own."""

import random

import pytest
import torch
from torch.nn import functional as F

from c3l_ray.chat import answer_prompt, render_turn, tokenize
from c3l_ray.methods import c3l, vigc
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.language import draw_turn
from c3l_ray.scenes.training.shared_pass import (
    TASK_KINDS,
    Branch,
    SharedPassLoss,
    Task,
    draw_continuation,
    draw_instruction,
)
from c3l_ray.scenes.training.tokenizer import (
    IMAGE_TOKEN,
    list_training_texts,
    make_tokenizer,
)
from c3l_ray.scenes.training.train_llava import make_llava, make_processor

TASKS: tuple[Task, ...] = ("pose", "answer", "caption", "text_only")


@pytest.fixture(scope="module")
def turns() -> SharedPassLoss:
    torch.manual_seed(0)
    processor = make_processor(make_tokenizer(list_training_texts(), appends_end=False))
    model = make_llava(processor.tokenizer)
    scenes = [draw_scene(seed) for seed in range(12)]
    features_NPD = torch.randn(len(scenes), 36, model.config.vision_config.hidden_size).half()
    return SharedPassLoss(model, processor, scenes, features_NPD, random.Random(0))


def row_loss(turns: SharedPassLoss, scene_index: int, branch: Branch) -> torch.Tensor:
    """The sum over the answer's losses, of a forward pass over nothing but this conversation."""
    model = turns.model
    image_ids = [model.config.image_token_id] * 36 if branch.sees_image else []
    ids_1T = torch.tensor([[*turns.prefix_ids, *image_ids, *branch.ids]])
    embeds_1TD = model.get_input_embeddings()(ids_1T)
    if branch.sees_image:
        image_1PD = model.model.multi_modal_projector(turns.features_NPD[[scene_index]].float())
        embeds_1TD[:, len(turns.prefix_ids) :][:, :36] = image_1PD
    hidden_1TD = model.model.language_model(inputs_embeds=embeds_1TD).last_hidden_state
    logits_TV = model.lm_head(hidden_1TD)[0]
    num_answer = len(branch.ids) - branch.answer_start
    return F.cross_entropy(
        logits_TV[-num_answer - 1 : -1], torch.tensor(branch.ids[-num_answer:]), reduction="sum"
    )


def take_gradients(turns: SharedPassLoss) -> torch.Tensor:
    gradients = [p.grad.flatten() for p in turns.model.parameters() if p.grad is not None]
    turns.model.zero_grad()
    return torch.cat(gradients)


def draw_branches(
    turns: SharedPassLoss, scene_indices: list[int], tasks: tuple[Task, ...]
) -> list[tuple[int, Branch]]:
    return [
        (row, turns.draw_branch(turns.scenes[i], task))
        for row, i in enumerate(scene_indices)
        for task in tasks
    ]


@pytest.mark.parametrize("average_turns", [False, True], ids=["mean of tokens", "mean of turns"])
@pytest.mark.parametrize("tasks", [TASKS, ("pose",) * 3, ("text_only",) * 2], ids=str)
def test_branches_have_the_loss_and_gradients_of_rows_of_their_own(
    turns: SharedPassLoss, tasks: tuple[Task, ...], average_turns: bool
) -> None:
    scene_indices = [3, 8, 5]
    branches = draw_branches(turns, scene_indices, tasks)
    lengths = [len(branch.ids) - branch.answer_start for _, branch in branches]
    sums = [row_loss(turns, scene_indices[row], branch) for row, branch in branches]
    if average_turns:
        rows_loss = torch.stack([s / n for s, n in zip(sums, lengths, strict=True)]).mean()
    else:
        rows_loss = torch.stack(sums).sum() / sum(lengths)
    rows_loss.backward()
    rows_gradients = take_gradients(turns)
    shared_loss = turns.compute_loss(scene_indices, branches, average_turns=average_turns)
    shared_loss.backward()
    assert shared_loss.item() == pytest.approx(rows_loss.item(), rel=1e-5)
    tolerance = 1e-3 * float(rows_gradients.abs().max())
    assert torch.allclose(take_gradients(turns), rows_gradients, atol=tolerance)


def test_sixteen_bits_change_little(turns: SharedPassLoss) -> None:
    turns.rng.seed(3)
    loss = turns.draw_loss(6, TASKS, average_turns=False)
    turns.rng.seed(3)
    scene_indices = turns.rng.sample(range(12), 6)
    branches = draw_branches(turns, scene_indices, TASKS)
    exact_loss = turns.compute_loss(scene_indices, branches, average_turns=False)
    assert loss.item() == pytest.approx(exact_loss.item(), rel=1e-2)


@pytest.mark.parametrize("task", [*TASKS, "reason", "continue"])
@pytest.mark.parametrize("seed", range(8))
def test_a_branch_is_rendered_like_any_chat(turns: SharedPassLoss, task: Task, seed: int) -> None:
    scene = draw_scene(seed)
    turns.rng.seed(seed)
    branch = turns.draw_branch(scene, task)
    rng = random.Random(seed)
    kind = rng.choice(TASK_KINDS.get(task, c3l.KINDS))
    question, answer = draw_turn(scene, kind, rng)
    if task == "pose":
        answer = f"Question: {question} Answer: {answer}"
        question = draw_instruction(kind, rng)
    elif task == "continue":
        question, answer = draw_continuation(kind, question, answer, rng)
    with_image = task != "text_only"
    text, _ = render_turn(turns.processor, question, answer, with_image=with_image)
    prompt = answer_prompt(turns.processor, question, with_image=with_image)
    tokenizer = turns.processor.tokenizer
    ids, prompt_ids = (
        tokenize(tokenizer, rendered.replace(IMAGE_TOKEN, IMAGE_TOKEN * 36))
        for rendered in (text, prompt)
    )
    image_ids = [turns.model.config.image_token_id] * 36 if with_image else []
    prefix_ids = [*turns.prefix_ids, *image_ids]
    assert [*prefix_ids, *branch.ids] == ids
    assert len(prefix_ids) + branch.answer_start == len(prompt_ids)
    assert tokenizer.unk_token_id not in ids


@pytest.mark.parametrize(
    ("task", "kinds"),
    [
        ("caption", {"detail"}),
        ("reason", {"reasoning"}),
        ("continue", set(vigc.INSTRUCTIONS)),
        ("answer", set(c3l.KINDS)),
    ],
)
def test_a_task_draws_its_kinds_of_turns(task: Task, kinds: set[str]) -> None:
    assert set(TASK_KINDS.get(task, c3l.KINDS)) == kinds


def test_instructions_are_those_of_the_methods() -> None:
    instructions = {draw_instruction("detail", random.Random(seed)) for seed in range(300)}
    assert instructions == {
        f"{wording} {c3l.FORMAT_REQUESTS['text']}" for wording in vigc.INSTRUCTIONS["detail"]
    }


def test_to_find_is_to_tell_the_look_of_the_first_thing_of_a_shape(turns: SharedPassLoss) -> None:
    scene = draw_scene(5)
    places = {
        f"{thing.shape} {thing.size} {thing.colour} {thing.cell}": place
        for place, thing in enumerate(scene.things)
    }
    for _ in range(50):
        branch = turns.draw_branch(scene, "find")
        text = turns.processor.tokenizer.decode(branch.ids[:-1]).strip()
        first = next(i for i, thing in enumerate(scene.things) if text.startswith(thing.shape))
        assert places[text] == first and branch.sees_image
        assert (branch.answer_start, branch.ids[-1]) == (1, turns.end_id)
