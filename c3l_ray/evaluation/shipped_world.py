"""Measures the shipped models on the world that they were trained on.

The real generator and scorer run, without Ray, on scenes that no training drew, biased and
unbiased. The report says how much of what the tiny LLaVA writes is true, whether its errors follow
the bias table, whether its tower saw better, how CLIP ranks descriptions, and which score tells
true turns from false ones.
"""

import asyncio
import bisect
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from c3l_ray.config import GenerateConfig
from c3l_ray.evaluation.judgement import JudgedTurn, judge_turns
from c3l_ray.inference.clip_scorer import ClipScorer
from c3l_ray.inference.engine import Engine
from c3l_ray.inference.engine_protocol import GenerationEngine
from c3l_ray.inference.turn_generator import TurnGenerator
from c3l_ray.inference.turn_scorer import TurnScorer
from c3l_ray.methods.c3l import KINDS
from c3l_ray.methods.scores import SCORE_NAMES
from c3l_ray.model_config import ClipModel, GeneratorModel, Sampling
from c3l_ray.scenes.draw import BIAS_TABLE, BIASED, SIZES, UNBIASED, Scene, World, draw_scene
from c3l_ray.scenes.language import draw_turn
from c3l_ray.scenes.render import render_scene
from c3l_ray.scenes.truth import FALSE, TRUE, Truth, error_follows_bias
from c3l_ray.scenes.world import encode_png
from c3l_ray.schema import STAGED_ROWS, conform

FIRST_SEED = 90_000_000  # far from the seeds that training draws
CLIP_GROUP = 16  # scenes whose descriptions CLIP ranks together
SCENES_PER_UNIT = 50
# Worlds that nothing was trained on: each shape tends to another's colour, and to the other size.
# The share of errors that their bias tables explain is what a table explains by chance.
OTHER_WORLDS = tuple(
    replace(
        BIASED,
        bias_table=tuple(
            replace(
                bias,
                colour=BIAS_TABLE[(place + offset) % len(BIAS_TABLE)].colour,
                size=next(size for size in SIZES if size != bias.size),
            )
            for place, bias in enumerate(BIAS_TABLE)
        ),
    )
    for offset in range(1, len(BIAS_TABLE))
)


@dataclass(frozen=True, kw_only=True)
class SceneTurn:
    """A turn that the model wrote about a scene."""

    scene: Scene
    judged: JudgedTurn

    @property
    def kind(self) -> str:
        return self.judged.turn["kind"]

    @property
    def truth(self) -> Truth | None:
        return self.judged.truth

    def is_explained_by_bias(self, world: World = BIASED) -> bool:
        """Whether the turn is false, and the world's bias table explains its error."""
        turn = self.judged.turn
        return self.truth == FALSE and error_follows_bias(
            self.scene, turn["question"], turn["answer"], world=world
        )


def measure_world(
    *, llava: Path, clip: Path, num_scenes: int, num_ranked: int, temperature: float
) -> str:
    """The report on two models.

    Args:
        llava: folder of the tiny LLaVA.
        clip: folder of the tiny CLIP.
        num_scenes: scenes of each world to write turns about.
        num_ranked: scenes whose descriptions CLIP ranks.
        temperature: of the sampling.
    """
    from c3l_ray.scenes.training.tower import probe_tower

    config = make_config(llava, clip, temperature)
    worlds = (BIASED, UNBIASED)
    scenes = [scene for world in worlds for scene in _draw_scenes(world, num_scenes)]
    turns = asyncio.run(generate_turns(config, scenes))
    turns_by_world = {
        world.name: [turn for turn in turns if turn.scene.world == world.name] for world in worlds
    }
    num_asked = len(scenes) * config.turns_per_image
    num_unknown = sum(turn.truth not in (TRUE, FALSE) for turn in turns)
    probe_shares = probe_tower(llava)
    probe = " | ".join(f"{name} {100 * share:.1f} %" for name, share in probe_shares.items())
    first_share = share_ranked_first(ClipScorer(config.clip), _draw_scenes(UNBIASED, num_ranked))
    return "\n".join(
        [
            f"{num_asked} turns asked for, {num_asked - len(turns)} not usable (mostly the same",
            f"question twice for an image), {num_unknown} of unknown truth, temperature "
            f"{temperature}\n",
            format_truths(turns_by_world),
            "\nArea under the curve for true against false, unbiased scenes:\n",
            format_areas(turns_by_world[UNBIASED.name]),
            "\nLinear probe on the vision tower's features, unbiased scenes:\n",
            f"| {probe} |",
            f"\nCLIP: the right description first of {CLIP_GROUP}: {100 * first_share:.1f} % of "
            f"{num_ranked} scenes",
        ]
    )


def make_config(llava: Path, clip: Path, temperature: float) -> GenerateConfig:
    return GenerateConfig(
        input=("-",),
        output="-",
        model=GeneratorModel(name=str(llava), dtype="float32", max_len=256, max_seqs=64),
        sampling=Sampling(max_tokens=96, temperature=temperature),
        clip=ClipModel(name=str(clip), weights=None),
    )


async def generate_turns(
    config: GenerateConfig, scenes: Sequence[Scene], engine: GenerationEngine | None = None
) -> list[SceneTurn]:
    """Writes turns about each scene, scores and judges them; turns of no use are left out.

    Args:
        config: of the generation.
        scenes: to write about.
        engine: to write with; None starts the config's own, and closes it.
    """
    generator = TurnGenerator(config, engine)
    try:
        tables = [await generator(table) for table in _stage_scenes(scenes)]
    finally:
        if isinstance(generator.engine, Engine):
            generator.engine.close()
    scorer = TurnScorer(config)
    turns = []
    for table in tables:
        for row in scorer(table).to_pylist():
            scene = Scene.from_json(row["meta"])
            one_row = pa.Table.from_pylist([row], schema=STAGED_ROWS)
            turns += [SceneTurn(scene=scene, judged=judged) for judged in judge_turns([one_row])]
    return turns


def _stage_scenes(scenes: Sequence[Scene]) -> Iterator[pa.Table]:
    """The scenes as units in the schema STAGED_ROWS."""
    for start in range(0, len(scenes), SCENES_PER_UNIT):
        unit_scenes = scenes[start : start + SCENES_PER_UNIT]
        keys = [f"{scene.world} {scene.seed}" for scene in unit_scenes]
        columns = {
            **dict.fromkeys(("image_id", "key", "source"), keys),
            "image": [encode_png(scene) for scene in unit_scenes],
            "meta": [scene.to_json() for scene in unit_scenes],
            "unit": ["scenes"] * len(unit_scenes),
            "unit_rows": [len(unit_scenes)] * len(unit_scenes),
        }
        yield conform(columns, STAGED_ROWS)


def area_under_curve(positives: Iterable[float], negatives: Iterable[float]) -> float | None:
    """The chance that a positive is above a negative, ties counted half; None without both."""
    ranked = sorted(negatives)
    wins = [
        (bisect.bisect_left(ranked, value) + bisect.bisect_right(ranked, value)) / 2
        for value in positives
    ]
    return sum(wins) / (len(wins) * len(ranked)) if wins and ranked else None


def share_ranked_first(clip: ClipScorer, scenes: Sequence[Scene]) -> float:
    """The share of scenes whose own description CLIP ranks first among those of their group."""
    num_first = 0
    for start in range(0, len(scenes), CLIP_GROUP):
        group = scenes[start : start + CLIP_GROUP]
        texts = [" ".join(draw_turn(scene, "detail", random.Random(0))) for scene in group]
        for place, scene in enumerate(group):
            cosines = clip.cosines([render_scene(scene)] * len(texts), texts)
            num_first += cosines[place] == max(cosines)
    return num_first / len(scenes)


def format_truths(turns_by_world: Mapping[str, Sequence[SceneTurn]]) -> str:
    """By kind, the true share of turns, and the shares of errors that bias tables explain."""
    columns = ("true", "prior's errors", "by other tables")
    heads = (f"{name}: {' | '.join(columns)}" for name in turns_by_world)
    lines = [
        f"| turns | {' | '.join(heads)} |",
        "| --- |" + " ---: |" * len(columns) * len(turns_by_world),
    ]
    for kind in ("all", *KINDS):
        cells = [kind]
        for turns in turns_by_world.values():
            same_kind = [turn for turn in turns if kind in ("all", turn.kind)]
            num_true = sum(turn.truth == TRUE for turn in same_kind)
            errors = [turn for turn in same_kind if turn.truth == FALSE]
            num_explained = sum(turn.is_explained_by_bias() for turn in errors)
            num_by_chance = sum(
                turn.is_explained_by_bias(world) for turn in errors for world in OTHER_WORLDS
            )
            num_chances = len(errors) * len(OTHER_WORLDS)
            cells += [
                _format_share(num_true, len(same_kind)),
                _format_share(num_explained, len(errors)),
                f"{100 * num_by_chance / num_chances:.1f} %" if errors else "-",
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def format_areas(turns: Sequence[SceneTurn]) -> str:
    """By score and kind, the area under the curve for true against false turns."""
    lines = ["| score | all | " + " | ".join(KINDS) + " |", "| --- |" + " ---: |" * 6]
    for score in SCORE_NAMES:
        cells = [score]
        for kind in ("all", *KINDS):
            values: dict[Truth | None, list[float]] = {TRUE: [], FALSE: []}
            for turn in turns:
                value = turn.judged.score(score)
                if kind in ("all", turn.kind) and turn.truth in values and value is not None:
                    values[turn.truth].append(value)
            area = area_under_curve(values[TRUE], values[FALSE])
            cells.append("-" if area is None else f"{area:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _draw_scenes(world: World, num_scenes: int) -> list[Scene]:
    return [draw_scene(FIRST_SEED + i, world) for i in range(num_scenes)]


def _format_share(count: int, total: int) -> str:
    return f"{100 * count / total:.1f} % of {total}" if total else "-"
