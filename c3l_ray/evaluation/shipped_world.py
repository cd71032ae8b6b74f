"""Measures the shipped world: `python -m c3l_ray.evaluation.world --help`.

The real generator and scorer, without Ray, on scenes that no training saw, biased and unbiased: how
much of what the tiny LLaVA says is true, whether its errors are what the bias table says, whether
its tower saw better, how CLIP ranks captions, and which score knows what is true.
"""

import argparse
import asyncio
import bisect
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pyarrow as pa

from c3l_ray.config import Clip as ClipConfig
from c3l_ray.config import GenerateConfig, Model, Sampling
from c3l_ray.evaluation.judgement import Judged, judged
from c3l_ray.inference.clip_scorer import Clip
from c3l_ray.inference.engine import Engine
from c3l_ray.inference.turn_generator import Generate
from c3l_ray.inference.turn_scorer import Score
from c3l_ray.methods.c3l import KINDS
from c3l_ray.scenes import world as shipped
from c3l_ray.scenes.draw import BIASED, SIZES, TASTES, UNBIASED, Scene, World, draw_scene, render
from c3l_ray.scenes.language import draw_turn
from c3l_ray.scenes.truth import FALSE, TRUE, from_prior
from c3l_ray.schema import STAGED_ROWS, SCORE_NAMES, conform

FIRST_SEED = 90_000_000  # far from the seeds that training draws
NUM_RANKED = 16
SCENES_A_CALL = 50
# Bias tables that nothing was trained on: each shape has another's colour, and the other size. What
# they say of the errors is what a table says by chance.
OTHER_TABLES = tuple(
    replace(
        BIASED,
        tastes=tuple(
            replace(
                taste,
                colour=TASTES[(place + turned) % len(TASTES)].colour,
                size=next(size for size in SIZES if size != taste.size),
            )
            for place, taste in enumerate(TASTES)
        ),
    )
    for turned in range(1, len(TASTES))
)


@dataclass(frozen=True, kw_only=True)
class Said:
    """One turn that the model made about a scene."""

    scene: Scene
    judged: Judged

    @property
    def kind(self) -> str:
        return str(self.judged.turn["kind"])

    @property
    def truth(self) -> str | None:
        return self.judged.truth

    def blamed(self, world: World = BIASED) -> bool:
        """Whether its error is what the world's bias table says."""
        return self.truth == FALSE and from_prior(self.scene, self.judged.turn, world)


def config_of(llava: Path, clip: Path, temperature: float) -> GenerateConfig:
    return GenerateConfig(
        input=("-",),
        output="-",
        model=Model(name=str(llava), dtype="float32", max_len=256, max_seqs=64),
        sampling=Sampling(max_tokens=96, temperature=temperature),
        clip=ClipConfig(name=str(clip), weights=None),
    )


async def talk(config: GenerateConfig, scenes: Sequence[Scene]) -> list[Said]:
    """What the model says of each scene, scored; replies that cannot be read are left out."""
    generate = Generate(config)
    try:
        tables = [await generate(table) for table in _tables(scenes)]
    finally:
        if isinstance(generate.engine, Engine):
            generate.engine.close()
    score = Score(config)
    said = []
    for table in tables:
        for row in score(table).to_pylist():
            scene = Scene.from_json(row["meta"])
            alone = pa.Table.from_pylist([row], schema=STAGED_ROWS)
            said += [Said(scene=scene, judged=each) for each in judged([alone])]
    return said


def _tables(scenes: Sequence[Scene]) -> Iterator[pa.Table]:
    for first in range(0, len(scenes), SCENES_A_CALL):
        part = scenes[first : first + SCENES_A_CALL]
        keys = [f"{scene.world} {scene.seed}" for scene in part]
        columns = {
            **dict.fromkeys(("image_id", "key", "source"), keys),
            "image": [shipped.png(scene) for scene in part],
            "meta": [scene.to_json() for scene in part],
            "unit": ["scenes"] * len(part),
            "unit_rows": [len(part)] * len(part),
        }
        yield conform(columns, STAGED_ROWS)


def auc(positive: Iterable[float], negative: Iterable[float]) -> float | None:
    """The chance that a positive one is above a negative one, ties counted half; or None."""
    ranked = sorted(negative)
    wins = [
        (bisect.bisect_left(ranked, value) + bisect.bisect_right(ranked, value)) / 2
        for value in positive
    ]
    return sum(wins) / (len(wins) * len(ranked)) if wins and ranked else None


def ranked_first(clip: Clip, scenes: Sequence[Scene]) -> float:
    """The share of scenes whose own description CLIP likes best among those of 16 scenes."""
    first = 0
    for start in range(0, len(scenes), NUM_RANKED):
        group = scenes[start : start + NUM_RANKED]
        texts = [" ".join(draw_turn(scene, "detail", random.Random(0))) for scene in group]
        for right, scene in enumerate(group):
            cosines = clip.cosines([render(scene)] * len(texts), texts)
            first += cosines[right] == max(cosines)
    return first / len(scenes)


def truth_table(said: dict[str, list[Said]]) -> str:
    """The true share by kind, of the errors those that are the bias table's, and by chance."""
    columns = ("true", "prior's errors", "by other tables")
    heads = (f"{name}: {' | '.join(columns)}" for name in said)
    lines = [f"| turns | {' | '.join(heads)} |"]
    lines.append("| --- |" + " ---: |" * len(columns) * len(said))
    for kind in ("all", *KINDS):
        cells = [kind]
        for turns in said.values():
            of_kind = [turn for turn in turns if kind in ("all", turn.kind)]
            num_true = sum(turn.truth == TRUE for turn in of_kind)
            wrong = [turn for turn in of_kind if turn.truth == FALSE]
            cells.append(_share(num_true, len(of_kind)))
            cells.append(_share(sum(turn.blamed() for turn in wrong), len(wrong)))
            by_chance = [turn.blamed(other) for turn in wrong for other in OTHER_TABLES]
            cells.append(f"{100 * sum(by_chance) / len(by_chance):.1f} %" if wrong else "-")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def auc_table(said: Sequence[Said]) -> str:
    lines = ["| score | all | " + " | ".join(KINDS) + " |", "| --- |" + " ---: |" * 6]
    for score in SCORE_NAMES:
        cells = [score]
        for kind in ("all", *KINDS):
            values: dict[str | None, list[float]] = {TRUE: [], FALSE: []}
            for turn in said:
                value = turn.judged.turn["scores"][score]
                if kind in ("all", turn.kind) and turn.truth in values and value is not None:
                    values[turn.truth].append(value)
            found = auc(values[TRUE], values[FALSE])
            cells.append("-" if found is None else f"{found:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _share(count: int, total: int) -> str:
    return f"{100 * count / total:.1f} % of {total}" if total else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--llava", type=Path, default=shipped.LLAVA, help="the tiny LLaVA")
    parser.add_argument("--clip", type=Path, default=shipped.CLIP, help="the tiny CLIP")
    parser.add_argument(
        "--num-scenes", type=int, default=400, help="of each world, five turns each"
    )
    parser.add_argument("--num-ranked", type=int, default=480, help="scenes for CLIP to caption")
    parser.add_argument("--temperature", type=float, default=0.7, help="0 is greedy")
    options = parser.parse_args()
    measure(
        options.llava, options.clip, options.num_scenes, options.num_ranked, options.temperature
    )


def measure(llava: Path, clip: Path, num_scenes: int, num_ranked: int, temperature: float) -> None:
    from c3l_ray.scenes.training.tower import probe

    config = config_of(llava, clip, temperature)
    worlds = (BIASED, UNBIASED)
    scenes = [scene for world in worlds for scene in _scenes(world, num_scenes)]
    everything = asyncio.run(talk(config, scenes))
    said = {w.name: [turn for turn in everything if turn.scene.world == w.name] for w in worlds}
    num_turns = len(scenes) * config.turns
    unknown = sum(turn.truth not in (TRUE, FALSE) for turn in everything)
    print(
        f"\n{num_turns} turns asked for, {num_turns - len(everything)} not usable (mostly the same"
    )
    print(f"question twice for an image), {unknown} of unknown truth, temperature {temperature}\n")
    print(truth_table(said))
    print("\nArea under the curve for true against false, unbiased scenes:\n")
    print(auc_table(said[UNBIASED.name]))
    print("\nLinear probe on the vision tower's features, unbiased scenes:\n")
    print("| " + " | ".join(f"{k} {100 * v:.1f} %" for k, v in probe(llava).items()) + " |")
    first = ranked_first(Clip(config.clip), _scenes(UNBIASED, num_ranked))
    print(f"\nCLIP: the right description first of {NUM_RANKED}: {_share_of(first, num_ranked)}")


def _scenes(world: World, num_scenes: int) -> list[Scene]:
    return [draw_scene(FIRST_SEED + i, world) for i in range(num_scenes)]


def _share_of(share: float, total: int) -> str:
    return f"{100 * share:.1f} % of {total} scenes"


if __name__ == "__main__":
    main()
