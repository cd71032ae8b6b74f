"""What a user can set of a training run; the docstrings are the flags' help texts.

Sources in brackets: [C-com] a community reproduction of C3L, whose own values are not public;
[L] the LLaVA-1.5 recipes; [CG] our reading of CG-VLM; [V-cfg] the configs of VIGC's authors. A
wrong value is refused when the config is made, before anything starts.
"""

from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from c3l_ray.flags import NOT_A_FLAG, optional
from c3l_ray.inputs.layout import TurnsLayout
from c3l_ray.methods.labels import LabelRules
from c3l_ray.ranges import Conflicts, Range, check_config
from c3l_ray.stopping import GRACE_S
from c3l_ray.template_date import is_day
from c3l_ray.train.mixture_config import Mixture
from c3l_ray.train.objectives import (
    OBJECTIVES,
    REFERENCE_PARTS,
    Alignment,
    Answers,
    Contrast,
    ObjectiveName,
    ObjectiveSpec,
    TuneMode,
)
from c3l_ray.train.tuning_config import ModelName, TuneChoice, TuningOptions

LEARNING_RATES: dict[TuneMode, float] = {"lora": 2e-4, "full": 2e-5, "adapter": 1e-3}
"""Peaks by default: [L], stage 2 for the first two, and stage 1."""

DEFAULT_MAX_PIXELS = 1_048_576  # where no run says how large its images were


@dataclass(frozen=True, kw_only=True)
class ModelToTune(TuningOptions, ModelName):  # the fields of the last class come first
    """The model that is tuned, and how much of it."""


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """How the weights are optimised: the same for any number of workers."""

    batch_size: Annotated[int, Range(min=1)] = 32
    """Images, or questions, in a step, over all workers [C-com]; 256 is usual for cgvlm [L]."""
    micro_batch: Annotated[int, Range(min=1)] = 4
    """Images that a worker computes at once; gradients are accumulated until the batch is done."""
    epochs: Annotated[float, Range(above=0)] = 1.0
    """Passes over the images; for the objective answers over the questions."""
    steps: Annotated[int | None, Range(min=1), optional("INT")] = None
    """Steps to train, whatever the number of epochs."""
    learning_rate: Annotated[float | None, Range(above=0), optional("FLOAT")] = None
    """Peak learning rate [L] (default: 2e-4 for LoRA, 2e-5 for full, 1e-3 for the adapter)."""
    warm_up: Annotated[float, Range(min=0, below=1)] = 0.03
    """Share of the steps in which the learning rate rises; then it falls along a cosine [L]."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay rates of AdamW's two moments [C-com]."""
    weight_decay: float = 0.0
    """AdamW weight decay [L]."""
    max_grad_norm: Annotated[float, Range(above=0)] = 1.0
    """Largest norm of the gradient; a longer one is scaled down to it."""
    seed: int = 0
    """Seed of the order of images, the initial weights and the dropout."""
    shuffle_window: Annotated[int, Range(min=1)] = 1024
    """Images that are shuffled among each other, after whole files were."""

    def count_accumulation_steps(self, num_workers: int) -> int:
        """Micro-batches in which each of the workers computes its part of a batch."""
        return -(-self.batch_size // (num_workers * self.micro_batch))


@dataclass(frozen=True, kw_only=True)
class Workers:
    """The processes that train, and how they share the model."""

    num: Annotated[int, Range(min=1)] = 1
    """Processes that train."""
    min: Annotated[int | None, Range(min=1), optional("INT")] = None
    """Fewest workers to train on with when nodes are lost; new nodes are used when they come."""
    gpus: Annotated[float | None, Range(min=0), optional("FLOAT")] = None
    """GPUs of each worker (default: 1 where the cluster has any)."""
    sharding: Literal["ddp", "fsdp"] = "ddp"
    """Each worker holds the whole model (ddp), or they share its weights (fsdp; by fully_shard)."""
    readers: Annotated[int, Range(min=1)] = 2
    """Tasks that read records and make batches of them at the same time."""
    max_failures: Annotated[int, Range(min=0)] = 3
    """Times that a worker may die before the run stops; the same command then resumes it."""

    def conflicts(self) -> Conflicts:
        if self.min is not None and self.min > self.num:
            yield "min", f"must be at most the number of workers, {self.num}"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What is measured and saved on the way."""

    log_every: Annotated[int, Range(min=1)] = 10
    """Steps between two lines of measurements."""
    evaluate_every: Annotated[int, Range(min=1)] = 200
    """Steps between two evaluations on held-out images."""
    held_out: Annotated[float, Range(min=0, below=1)] = 0.02
    """Share of the images that is only evaluated on, chosen by file name, content or id."""
    max_held_out: Annotated[int, Range(min=1)] = 512
    """Most held-out images that an evaluation reads."""
    checkpoint_every: Annotated[int, Range(min=1)] = 100
    """Steps between two checkpoints."""
    keep_checkpoints: Annotated[int, Range(min=1)] = 2
    """Latest checkpoints to keep."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a model is trained, whatever the model and the records."""

    optim: Optimization = field(default_factory=Optimization)
    workers: Workers = field(default_factory=Workers)
    progress: Progress = field(default_factory=Progress)
    labels: LabelRules = field(default_factory=LabelRules)
    contrast: Contrast = field(default_factory=Contrast)
    alignment: Alignment = field(default_factory=Alignment)
    answers: Answers = field(default_factory=Answers)
    export: Literal["model", "adapter"] = "model"
    """Write the tuned model, or beside it also the LoRA matrices as files of peft (adapter)."""
    verify: bool = True
    """Load the tuned model in vLLM at the end, and have it answer once."""

    def conflicts(self) -> Conflicts:
        if self.optim.batch_size < self.workers.num:
            yield "optim.batch_size", f"must be at least {self.workers.num}, the number of workers"


@dataclass(frozen=True, kw_only=True)
class ConversationLayout(TurnsLayout):
    """Where the images, captions and turns of a dataset are found, and which turns vigc learns.

    A run needs none of this. Columns of Parquet files are found by their usual names.
    """

    # The sizes of VIGC's sets suggest that it takes every turn.
    history: Literal["auto", "no"] = "auto"
    """With vigc learn a conversation's first turn (auto), or each as if it stood alone (no)."""


@dataclass(frozen=True, kw_only=True)
class TrainingTask:
    """What is trained, on what, and where the result is written."""

    input: tuple[str, ...]
    """Output of a run; but for c3l and answers also LLaVA JSON, Parquet, tars, folders, as is."""
    output: str
    """Folder for model/, checkpoints and run.json, local or s3://. The same command resumes."""
    model: ModelToTune
    objective: ObjectiveName = "c3l"
    """Tell good turns (c3l) or answers, align captions (cgvlm), write turns (vigc), or converse."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(TrainingOptions, TrainingTask):  # the fields of the last class come first
    """Records in, a tuned checkpoint out."""

    mixture: Mixture = field(default_factory=Mixture)
    layout: ConversationLayout = field(default_factory=ConversationLayout)
    max_pixels: Annotated[int | None, Range(min=1), optional("INT")] = None
    """Shrink larger images to this many pixels (default: as the run did; else 1,048,576)."""
    grace: Annotated[float, Range(min=0)] = GRACE_S
    """Seconds after SIGTERM or Ctrl-C in which the steps so far are saved in a checkpoint."""
    prompt_date: Annotated[str | None, optional("YYYY-MM-DD")] = None
    """Day that a chat template which writes it is given (default: the run's, else when begun)."""
    mix_versions: bool = False
    """Go on in an output that other versions of c3l-ray, transformers or torch began."""
    job: Annotated[Literal["train", "c3l"], NOT_A_FLAG] = "train"
    """Job that trains, by whose flags messages call a setting."""

    def __post_init__(self) -> None:
        check_config(self)

    def flag(self, path: str, *, off: bool = False) -> str:
        """A setting's flag as the user of the job writes it.

        Args:
            path: of the field, such as "model.max_len".
            off: whether the flag is the one that switches the setting off.
        """
        concern, dot, name = path.rpartition(".")
        first = path.partition(".")[0]
        if self.job == "c3l" and first == "model" and name in _names_of(TuningOptions):
            concern = "tuning"
        elif self.job == "c3l" and first in _names_of(TrainingOptions):
            concern, dot = f"training{dot}{concern}", "."
        return f"--{concern}{dot}{'no-' if off else ''}{name}".replace("_", "-")

    def conflicts(self) -> Conflicts:
        yield from super().conflicts()
        if self.prompt_date is not None and not is_day(self.prompt_date):
            yield "prompt_date", "must be a day as YYYY-MM-DD"
        yield from find_tuning_conflicts(
            self, self.objective, self.model.tune, self.flag("model.tune")
        )

    @property
    def named_input(self) -> str:
        """What is learnt from, as messages call it: a round of jobs.c3l is named by no flag."""
        paths = " ".join(self.input)
        return f"--input {paths}" if self.job == "train" else f"the turns in {paths}"

    @property
    def objective_spec(self) -> ObjectiveSpec:
        """What the objective asks of the rest of the training."""
        return OBJECTIVES[self.objective]

    @property
    def compares_with_reference(self) -> bool:
        """Whether the loss needs what the model that training begins with computes."""
        return _compares_with_reference(self, self.objective)

    @property
    def sum_names(self) -> tuple[str, ...]:
        """All sums that a forward pass returns; `images` counts what was summed over."""
        parts = self.objective_spec.loss_parts
        if not self.compares_with_reference:
            parts = tuple(part for part in parts if part not in REFERENCE_PARTS)
        return ("loss", *parts, "images")

    @property
    def tune_mode(self) -> TuneMode:
        """Which weights learn."""
        return _choose_tune_mode(self.objective, self.model.tune)

    @property
    def image_pixels(self) -> int:
        """To how many pixels a larger image is shrunk."""
        return self.max_pixels or DEFAULT_MAX_PIXELS

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate at the end of the warm-up."""
        return self.optim.learning_rate or LEARNING_RATES[self.tune_mode]


def find_tuning_conflicts(
    training: TrainingOptions, objective: ObjectiveName, tune: TuneChoice, flag: str
) -> Conflicts:
    """What a training cannot do with the weights that learn; fields are named as of the training.

    Args:
        training: its options.
        objective: what it learns.
        tune: the weights that are asked for.
        flag: that asks for them.
    """
    mode = _choose_tune_mode(objective, tune)
    if training.export == "adapter" and mode != "lora":
        yield "export", f"{flag} {mode} has no LoRA matrices"
    if _compares_with_reference(training, objective) and mode != "lora":
        name = "pair_weight" if training.answers.pair_weight else "anchor"
        yield (
            f"answers.{name}",
            f"{flag} {mode} changes the model that it compares with; use {flag} lora, or the "
            "weight 0",
        )


def _choose_tune_mode(objective: ObjectiveName, tune: TuneChoice) -> TuneMode:
    return OBJECTIVES[objective].tune_mode if tune == "auto" else tune


def _compares_with_reference(training: TrainingOptions, objective: ObjectiveName) -> bool:
    return objective == "answers" and training.answers.needs_reference


def _names_of(options: type[Any]) -> set[str]:
    return {option.name for option in fields(options)}
