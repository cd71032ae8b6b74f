"""What a model is like: the turns that it writes, and its answers to questions that are fixed.

The product's own generator and engine run, in a process of their own that ends with its engine.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from c3l_ray.config import GenerateConfig
from c3l_ray.errors import C3LError, last_line
from c3l_ray.methods.sentences import split_sentences
from c3l_ray.scenes.draw import Scene
from c3l_ray.scenes.language import CELL_SENTENCE
from c3l_ray.scenes.truth import FALSE, judge_turn
from c3l_ray.scenes.world import encode_png
from tests.evidence.product import GENERATION_FLAGS, connect, parse_flags
from tests.evidence.worlds import SceneSet, scene_key

if TYPE_CHECKING:
    from c3l_ray.inference.turn_generator import TurnGenerator
    from c3l_ray.schema import Turn

Row = dict[str, Any]

MAX_TOKENS = 96
TEMPERATURE = 0.7
NUM_SAMPLES = {"unbiased": 2}
"""By world, how often each fixed question is answered at that temperature; others once."""


def measure_generator(
    model: Path, scenes: SceneSet, questions: Sequence[Row] | None
) -> dict[str, list[Row]]:
    """The generator's own turns about scenes, and its answers to questions that were posed.

    Args:
        model: folder of the generator.
        scenes: to write about.
        questions: rows of another generator's turns about them, to answer; None takes its own.

    Raises:
        C3LError: the process failed.
    """
    measured: dict[str, list[Row]] = _run_in_process(_measure, model, scenes, questions)
    return measured


def answer_questions(model: Path, scenes: SceneSet, questions: Sequence[Row]) -> list[str]:
    """The model's greedy answers to bare questions, each with its scene's image.

    Args:
        model: folder of the model.
        scenes: that the questions are about.
        questions: rows with `scene` and `question`.

    Raises:
        C3LError: the process failed.
    """
    answers: list[str] = _run_in_process(_answer_bare_questions, model, scenes, questions)
    return answers


def _run_in_process(measure: Callable[..., Any], model: Path, *args: Any) -> Any:
    """What a coroutine function returns of a model, in a process that ends with its engine."""
    import ray

    connect()
    remote = ray.remote(num_cpus=1, max_calls=1)(_run_to_end)
    try:
        return ray.get(remote.remote(measure, str(model), *args))
    except ray.exceptions.RayError as error:
        raise C3LError(f"the model {model} failed: {last_line(error)}") from error


def _run_to_end(measure: Callable[..., Any], *args: Any) -> Any:
    return asyncio.run(measure(*args))


@asynccontextmanager
async def _start(
    model: str, scenes: SceneSet
) -> AsyncIterator[tuple["TurnGenerator", list[Scene]]]:
    """The generator of turns with its engine, and the scenes."""
    from c3l_ray.inference.engine import Engine
    from c3l_ray.inference.turn_generator import TurnGenerator

    paths = ("--input", "-", "--output", "-", "--sampling.seed", str(scenes.seed))
    config = parse_flags(GenerateConfig, (*GENERATION_FLAGS, *paths, "--model.name", model))
    generator = TurnGenerator(config)
    try:
        yield generator, list(scenes.draw())
    finally:
        cast(Engine, generator.engine).close()


async def _measure(
    model: str, scenes: SceneSet, questions: Sequence[Row] | None
) -> dict[str, list[Row]]:
    async with _start(model, scenes) as (generator, drawn):
        written = await asyncio.gather(*(_write_turns(generator, scene) for scene in drawn))
        own = [
            describe_turn(scene, cast(Row, turn))
            for scene, turns in zip(drawn, written, strict=True)
            for turn in turns
        ]
        asked = [row for row in (own if questions is None else questions) if is_usable(row)]
        fixed = await _answer_posed_questions(generator, drawn, asked)
    return {"own": own, "fixed": fixed}


async def _write_turns(generator: "TurnGenerator", scene: Scene) -> "list[Turn]":
    """The generator's own turns about a scene."""
    from c3l_ray.images import decode_image

    image = decode_image(encode_png(scene), generator.config.max_pixels)
    turns, _ = await generator.ask_about(image, scene_key(scene), [])
    return turns


async def _answer_posed_questions(
    generator: "TurnGenerator", scenes: Sequence[Scene], questions: Sequence[Row]
) -> list[Row]:
    """Answers, sampled and greedy, after the question was posed as in the generator's own turns."""
    from c3l_ray import chat

    scene_of = {scene_key(scene): scene for scene in scenes}
    asked: list[tuple[Row, bool]] = []
    requests: list[EngineRequest] = []
    for place, row in enumerate(questions):
        prompt = chat.continuation_prompt(
            generator.processor,
            row["instruction"],
            f"Question: {row['question']} Answer:",
            with_image=True,
        )
        num_samples = NUM_SAMPLES.get(row["world"], 1)
        for number in range(num_samples + 1):
            is_greedy = number == num_samples
            asked.append((row, is_greedy))
            requests.append(
                EngineRequest(
                    scene=row["scene"],
                    prompt=prompt,
                    temperature=0.0 if is_greedy else TEMPERATURE,
                    seed=place * 10 + number,  # the same for all generators
                )
            )
    replies = await _ask_engine(generator, scenes, requests)
    return [
        {
            "scene": row["scene"],
            "world": row["world"],
            "kind": row["kind"],
            "greedy": is_greedy,
            "readable": is_whole and bool(answer),
            "truth": judge_turn(scene_of[row["scene"]], row["question"], answer),
            "answer": answer,
        }
        for (row, is_greedy), (answer, is_whole) in zip(asked, replies, strict=True)
    ]


async def _answer_bare_questions(
    model: str, scenes: SceneSet, questions: Sequence[Row]
) -> list[str]:
    from c3l_ray import chat

    async with _start(model, scenes) as (generator, drawn):
        requests = [
            EngineRequest(
                scene=row["scene"],
                prompt=chat.answer_prompt(generator.processor, row["question"], with_image=True),
                temperature=0.0,
                seed=0,
            )
            for row in questions
        ]
        replies = await _ask_engine(generator, drawn, requests)
    return [answer for answer, _ in replies]


@dataclass(frozen=True, kw_only=True)
class EngineRequest:
    """A request about a scene, by its key."""

    scene: str
    prompt: str
    temperature: float
    seed: int


async def _ask_engine(
    generator: "TurnGenerator", scenes: Sequence[Scene], requests: Sequence[EngineRequest]
) -> list[tuple[str, bool]]:
    """The engine's replies, and whether each ended by itself."""
    from c3l_ray import chat
    from c3l_ray.images import decode_image
    from c3l_ray.inference.engine_protocol import Decoding, GenerationRequest

    images = {
        scene_key(scene): decode_image(encode_png(scene), generator.config.max_pixels)
        for scene in scenes
    }
    replies = await asyncio.gather(
        *(
            generator.engine.ask(
                GenerationRequest(
                    prompt_ids=chat.tokenize(generator.processor.tokenizer, request.prompt),
                    image=images[request.scene],
                    image_key=request.scene,
                    seed=request.seed,
                    decoding=Decoding(temperature=request.temperature, max_tokens=MAX_TOKENS),
                )
            )
            for request in requests
        )
    )
    return [(reply.text.strip(), reply.finish_reason == "stop") for reply in replies]


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
