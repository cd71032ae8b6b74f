"""What a user can set of jobs.c3l, and what that makes of each of its stages."""

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Literal

from c3l_ray.config import GenerateConfig
from c3l_ray.flags import shown_first
from c3l_ray.methods.scores import RankedBy
from c3l_ray.ranges import Conflicts, Range
from c3l_ray.select_config import SHARE_OR_COUNT, SelectConfig, Within, is_share_or_count
from c3l_ray.train.training_config import (
    ModelToTune,
    TrainConfig,
    TrainingOptions,
    find_tuning_conflicts,
)
from c3l_ray.train.tuning_config import TuningOptions
from c3l_ray.workflows.records import fields_of

SEEDS_PER_RUN = 1000
"""Seeds of the rounds of one --sampling.seed, so that no round of another one has them too."""


@shown_first("input", "output", "objective", "answers", "top", "by", "within", "rounds")
@dataclass(frozen=True, kw_only=True)
class C3LConfig(GenerateConfig):
    """Shards of images in, the best of two or more rounds of turns out."""

    output: str
    """Folder for the stages, local or s3://. The same command resumes there."""
    rounds: Annotated[int, Range(min=0)] = 1
    """Trainings; a generation with the tuned model follows each."""
    objective: Literal["c3l", "answers"] = "c3l"
    """Learn an image's best turn against its others, or (answers) a question's best answer."""
    top: Annotated[float, Range(above=0)] = 5000
    """Turns to keep: a count of 1 or more (the paper's 5k), or a share below 1."""
    by: RankedBy = "i2c"
    """Score that ranks the turns: i2c is the paper's; on scenes grounding told true turns best."""
    within: Within = "dataset"
    """Rank raw scores, or each turn among its kind, or among its kind's turns of like length."""
    fresh_seeds: bool = True
    """Give each round seeds of its own; without, rounds ask alike, and compare turn by turn."""
    tuning: TuningOptions = field(default_factory=TuningOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)

    def conflicts(self) -> Conflicts:
        yield from super().conflicts()
        if self.objective == "answers" and self.rounds and not self.answers:
            yield "objective", "has no answers to choose from; ask for some, such as --answers 6"
        if self.limit is not None:
            yield "limit", "later stages are made from whole rounds; name an input of fewer images"
        if self.retry_failed is not None:
            yield "retry_failed", "later stages are made from the rounds as they are"
        for name, content in (("score", "scores"), ("keep_images", "images")):
            if not getattr(self, name):
                yield name, f"training needs the {content} in the records"
        if self.rounds:
            conflicts = find_tuning_conflicts(
                self.training, self.objective, self.tuning.tune, "--tuning.tune"
            )
            yield from ((f"training.{name}", message) for name, message in conflicts)
        if self.training.contrast.token_weights == "vig" and not self.token_gains:
            yield "training.contrast.token_weights", "needs the flag --token-gains"
        if not is_share_or_count(self.top):
            yield "top", SHARE_OR_COUNT
        if self.rounds and self.model.trust_remote_code:
            yield "model.trust_remote_code", "training does not load models with code of their own"


def generation_config(config: C3LConfig, model: str, number: int) -> GenerateConfig:
    """A round of generation by a model; the model as it came scores it, whatever tuning did."""
    seed = config.sampling.seed * SEEDS_PER_RUN + (number if config.fresh_seeds else 0)
    return GenerateConfig(
        **{
            **fields_of(GenerateConfig, config),
            "output": f"{config.output}/round-{number}",
            "sampling": dataclasses.replace(config.sampling, seed=seed),
            # A tuned model lies in a folder, which has no revisions.
            "model": dataclasses.replace(
                config.model, name=model, revision=config.model.revision if number == 0 else None
            ),
            "scorer": dataclasses.replace(config.scorer, name=config.scorer_name),
        }
    )


def training_config(config: C3LConfig, model: str, number: int) -> TrainConfig:
    """The training of a model on the turns of a round."""
    return TrainConfig(
        **{
            **fields_of(TrainingOptions, config.training),
            "input": (f"{config.output}/round-{number}",),
            "output": f"{config.output}/train-{number}",
            "objective": config.objective,
            "model": ModelToTune(
                name=model,
                revision=config.model.revision if number == 0 else None,
                template_args=config.model.template_args,
                **fields_of(TuningOptions, config.tuning),
            ),
            "prompt_date": config.prompt_date,
            "mix_versions": config.mix_versions,
            "job": "c3l",
            "max_pixels": config.max_pixels,
            "grace": config.grace,
        }
    )


def selection_config(config: C3LConfig) -> SelectConfig:
    """The selection from the turns of the last round."""
    return SelectConfig(
        input=f"{config.output}/round-{config.rounds}",
        output=f"{config.output}/dataset",
        top=config.top,
        by=config.by,
        within=config.within,
    )
