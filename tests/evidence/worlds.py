"""The worlds that are measured, and their scenes.

The models learnt the first two. Nothing was trained or chosen on the others: each departs from the
shipped worlds in one respect.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from c3l_ray.scenes.draw import (
    BIAS_TABLE,
    BIASED,
    SIZES,
    UNBIASED,
    Scene,
    draw_scene,
)

OTHER_BIAS = replace(
    BIASED,
    name="other_bias",
    bias_table=tuple(
        replace(
            bias,
            colour=BIAS_TABLE[(place + 2) % len(BIAS_TABLE)].colour,
            size=next(size for size in SIZES if size != bias.size),
        )
        for place, bias in enumerate(BIAS_TABLE)
    ),
)

WORLDS = {
    world.name: world
    for world in (
        UNBIASED,
        BIASED,
        replace(UNBIASED, name="crowded", count_bias=0.8, usual_count=6),
        replace(UNBIASED, name="noisy", noise=12.0, max_marks=20),
        replace(UNBIASED, name="blurred_sizes", size_spread=1.7, dull_share=0.6),
        OTHER_BIAS,
    )
}
DESCRIPTIONS = {
    "unbiased": "every look equally likely; the models learnt to see on such scenes",
    "biased": "95 % of colours and sizes as the table says; the LLaVA has its prior from these",
    "crowded": "held out: six things in five scenes of six",
    "noisy": "held out: noise of 12 in place of 5, up to 20 marks in place of 8",
    "blurred_sizes": "held out: sizes spread twice as far, twice as many dull things",
    "other_bias": "held out: biased as strongly, to other colours and to the opposite sizes",
}

FIRST_SEED = 91_000_000  # far from the seeds of training, of the demo and of jobs.evaluate
SEEDS_PER_REPETITION = 100_000
PLACES = {
    "scores": 0,
    "captions": 10_000,
    "learn": 20_000,
    "instructions": 30_000,
    "evaluate": 40_000,
    "correction": 60_000,
    "examine": 80_000,
}
"""What scenes are drawn for, and where its seeds begin within a repetition's."""


@dataclass(frozen=True, kw_only=True)
class SceneSet:
    """Scenes of some worlds for one purpose of one repetition.

    Attributes:
        purpose: one of PLACES.
        seed: of the repetition.
        sizes: by world, how many scenes.
    """

    purpose: str
    seed: int
    sizes: dict[str, int]

    def draw(self) -> Iterable[Scene]:
        """The scenes, one world after another."""
        for name, num_scenes in self.sizes.items():
            first = first_scene_seed(self.purpose, self.seed)
            for number in range(num_scenes):
                yield draw_scene(first + number, WORLDS[name])


def first_scene_seed(purpose: str, seed: int) -> int:
    """The seed of the first scene of a purpose in a repetition; the others follow."""
    return FIRST_SEED + seed * SEEDS_PER_REPETITION + PLACES[purpose]


def scene_key(scene: Scene) -> str:
    """A name of the scene that no other scene of any repetition has."""
    return f"{scene.world} {scene.seed}"
