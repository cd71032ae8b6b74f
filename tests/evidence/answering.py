"""What a generator is like: the turns that it writes, and its answers to questions that are fixed.

The product's own generator and engine run, in a process of their own that ends with its engine.
"""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from c3l_ray.config import GenerateConfig
from c3l_ray.errors import C3LError, last_line
from c3l_ray.methods.sentences import split_sentences
from c3l_ray.scenes.draw import Scene
from c3l_ray.scenes.language import CELL_SENTENCE
from c3l_ray.scenes.truth import FALSE, judge_turn
from c3l_ray.scenes.world import encode_png
from tests.evidence.product import GENERATION_FLAGS, connect, parse_flags
from tests.evidence.worlds import SceneSet, scene_key

Row = dict[str, Any]

MAX_TOKENS = 96
TEMPERATURE = 0.7
NUM_SAMPLES = {"unbiased": 2}
"""By world, how often each fixed question is answered at that temperature; others once."""


def measure_generator(
    model: Path, scenes: SceneSet, questions: Sequence[Row] | None
) -> dict[str, list[Row]]:
    """The generator's own turns about scenes, and its answers to the questions.

    Args:
        model: folder of the generator.
        scenes: to write about.
        questions: rows of another generator's turns about them, to answer; None takes its own.

    Raises:
        C3LError: the process failed.
    """
    import ray

    connect()
    measure = ray.remote(num_cpus=1, max_calls=1)(_measure_in_process)
    try:
        return ray.get(measure.remote(str(model), scenes, questions))
    except ray.exceptions.RayError as error:
        raise C3LError(f"the generator {model} failed: {last_line(error)}") from error


def _measure_in_process(
    model: str, scenes: SceneSet, questions: Sequence[Row] | None
) -> dict[str, list[Row]]:
    return asyncio.run(_measure(model, scenes, questions))


async def _measure(
    model: str, scenes: SceneSet, questions: Sequence[Row] | None
) -> dict[str, list[Row]]:
    from c3l_ray.inference.engine import Engine
    from c3l_ray.inference.turn_generator import TurnGenerator

    paths = ("--input", "-", "--output", "-", "--sampling.seed", str(scenes.seed))
    config = parse_flags(GenerateConfig, (*GENERATION_FLAGS, *paths, "--model.name", model))
    generator = TurnGenerator(config)
    drawn = list(scenes.draw())
    try:
        written = await asyncio.gather(
            *(generator.turns_of_image(scene_key(s), encode_png(s), None) for s in drawn)
        )
        own = [
            describe_turn(scene, cast(Row, turn))
            for scene, (turns, _) in zip(drawn, written, strict=True)
            for turn in turns
        ]
        asked = own if questions is None else questions
        fixed = await _answer_all(generator, drawn, [row for row in asked if is_usable(row)])
    finally:
        cast(Engine, generator.engine).close()
    return {"own": own, "fixed": fixed}


async def _answer_all(
    generator: Any, scenes: Sequence[Scene], questions: Sequence[Row]
) -> list[Row]:
    """Answers to the questions: sampled, and greedy."""
    from c3l_ray.images import decode_image

    scene_of = {scene_key(scene): scene for scene in scenes}
    images = {
        key: decode_image(encode_png(scene), generator.config.max_pixels)
        for key, scene in scene_of.items()
    }
    answers = []
    for place, row in enumerate(questions):
        num_samples = NUM_SAMPLES.get(row["world"], 1)
        for number in range(num_samples + 1):
            is_greedy = number == num_samples
            seed = place * 10 + number  # the same for all generators
            answers.append(_answer(generator, scene_of, images, row, seed, is_greedy))
    return list(await asyncio.gather(*answers))


async def _answer(
    generator: Any,
    scene_of: dict[str, Scene],
    images: dict[str, Any],
    row: Row,
    seed: int,
    is_greedy: bool,
) -> Row:
    """An answer to a question after it was posed, as the generator's own turns have theirs."""
    from c3l_ray import chat
    from c3l_ray.inference.engine_protocol import Decoding, GenerationRequest

    key, question = row["scene"], row["question"]
    prompt = chat.continuation_prompt(
        generator.processor,
        row["instruction"],
        f"Question: {question} Answer:",
        with_image=True,
    )
    reply = await generator.engine.ask(
        GenerationRequest(
            prompt_ids=chat.tokenize(generator.processor.tokenizer, prompt),
            image=images[key],
            image_key=key,
            seed=seed,
            decoding=Decoding(temperature=0.0 if is_greedy else TEMPERATURE, max_tokens=MAX_TOKENS),
        )
    )
    answer = reply.text.strip()
    return {
        "scene": key,
        "world": row["world"],
        "kind": row["kind"],
        "greedy": is_greedy,
        "readable": reply.finish_reason == "stop" and bool(answer),
        "truth": judge_turn(scene_of[key], question, answer),
        "answer": answer,
    }


def is_usable(row: Row) -> bool:
    return row["status"] == "ok"


def describe_turn(scene: Scene, turn: Row) -> Row:
    """A turn that a generator wrote about a scene, judged; a description by what it covers."""
    question, answer = turn.get("question"), turn.get("answer")
    row = {
        "scene": scene_key(scene),
        "world": scene.world,
        "kind": turn["kind"],
        "instruction": turn["instruction"],
        "status": turn["status"],
        "question": question,
        "answer": answer,
        "truth": judge_turn(scene, question, answer),
    }
    if turn["kind"] == "detail" and is_usable(row):
        sentences = split_sentences(answer or "")
        row["covered"] = count_covered_things(scene, sentences)
        row["things"] = len(scene.things)
        row["false_sentences"] = sum(
            judge_turn(scene, question, sentence) == FALSE for sentence in sentences
        )
    return row


def count_covered_things(scene: Scene, sentences: Sequence[str]) -> int:
    """How many things of a scene some sentence names in full, at their place."""
    said = {re.sub(r"\s+", " ", sentence.strip()) for sentence in sentences}
    return sum(
        CELL_SENTENCE.format(cell=thing.cell, thing=f"a {thing.full_name}") in said
        for thing in scene.things
    )
