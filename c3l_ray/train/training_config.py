"""What a user can set of a training run; the docstrings are the flags' help texts.

Sources in brackets: [C-com] a community reproduction of C3L, whose own values are not public;
[L] the LLaVA-1.5 recipes; [CG] our reading of CG-VLM; [V-cfg] the configs of VIGC's authors. A
wrong value is refused when the config is made, before anything starts.
"""

from dataclasses import dataclass, field
from typing import Literal

from c3l_ray.config import RankedBy, at_least
from c3l_ray.errors import PreflightError
from c3l_ray.train import objectives
from c3l_ray.train.reading.mixture import Mixture

LEARNING_RATES = {"lora": 2e-4, "full": 2e-5, "adapter": 1e-3}  # [L], stage 2 and stage 1


def _share(flag: str, value: float) -> None:
    if not 0 <= value < 1:
        raise PreflightError(f"--{flag} {value}: must be in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How much of a model is tuned."""

    tune: Literal["auto", "lora", "full", "adapter"] = "auto"
    """What learns: LoRA on the language half, all of that half, or the vision adapter alone.
    auto is lora for the objectives c3l and vigc, and adapter for cgvlm. VIGC trains a Q-Former that
    reads the prompt, and its projection; other models have no such part, so lora is our reading."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the computation; weights that learn are float32. auto is bfloat16 on GPUs that have it."""
    lora_rank: int = 16
    """Rank of the LoRA matrices [C-com]."""
    lora_alpha: float = 64.0
    """LoRA's scale is alpha / rank [C-com]."""
    lora_dropout: float = 0.0
    """Dropout before the LoRA matrices."""
    max_len: int = 2048
    """Longest prompt and reply in tokens, image tokens counted; longer ones are passed over."""
    activation_checkpointing: bool = False
    """Compute activations twice, to hold fewer of them."""

    def __post_init__(self) -> None:
        at_least("model.lora-rank", self.lora_rank, 1)
        at_least("model.max-len", self.max_len, 1)
        _share("model.lora-dropout", self.lora_dropout)


@dataclass(frozen=True, kw_only=True)
class Tuned(Tuning):
    """The model that is tuned, and how much of it."""

    name: str
    """Hub name, local path or s3:// folder of the vision-language model to begin with, in
    safetensors."""


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """The objective c3l: pull an image's positive turn to the anchor, push its negatives away."""

    temperature: float = 0.2
    """Of the softmax over cosines [C-com]."""
    nll_weight: float = 1.0
    """Weight (beta) of the positive reply's negative log-likelihood; our reading."""
    anchor: Literal["instruction", "description"] = "instruction"
    """What turns are compared with: the instruction with the image in context [C-com, later], or
    the image's caption, else its best detail turn [C-com, early]."""
    representation: Literal["hidden", "embedding"] = "hidden"
    """Of a text: the mean of its last hidden states (as in CLAPS, arXiv 2012.07280), or of its
    input embeddings [C-com], which can learn nothing but the affine layer unless they are tuned."""
    similarity: Literal["cosine", "likelihood"] = "cosine"
    """What is contrasted: a turn's cosine with the anchor [C-com], or its own likelihood, the mean
    log-probability of its tokens under its prompt and image. The second acts on what the model
    generates and needs no affine layer; our reading, after arXiv 2210.00045."""
    in_batch_negatives: bool = False
    """The turns of the other images in a worker's micro-batch are negatives too."""
    token_weights: Literal["none", "vig"] = "none"
    """vig: only the answer's tokens whose log-likelihood the image raises by more than
    --contrast.token-threshold are learnt, as arXiv 2602.17186 does; needs stored token gains."""
    token_threshold: float = 0.0
    """In nats; our reading of the least gain that counts."""

    def __post_init__(self) -> None:
        if self.similarity == "likelihood" and self.anchor == "description":
            raise PreflightError(
                "--contrast.anchor description: a likelihood is compared with no anchor; "
                "leave the flag, or take --contrast.similarity cosine"
            )
        if self.similarity == "likelihood" and self.in_batch_negatives:
            raise PreflightError(
                "--contrast.in-batch-negatives: a turn's likelihood is that under its own image; "
                "turns of other images are compared by --contrast.similarity cosine"
            )
        if not self.temperature > 0:
            raise PreflightError(f"--contrast.temperature {self.temperature}: must be above 0")
        at_least("contrast.nll-weight", self.nll_weight, 0)


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """The objective cgvlm: align the adapter's patch features with the caption's tokens."""

    weight: float = 1.0
    """Of the contrastive part (lambda), beside the captioning loss [CG]."""
    negatives: Literal["batch", "micro-batch"] = "batch"
    """An image's negatives: all other captions of its batch [CG], for which a batch in several
    rounds is computed forward twice; or those that all workers compute at once,
    --optim.micro-batch times --workers.num of them."""
    windows: int = 36
    """Windows that an image's patches are averaged over before they are compared [CG]."""
    temperature: float = 0.07
    """Where the learnt temperature begins [CG]."""
    least_temperature: float = 0.01
    """The floor under it [CG]: averaged cosines are small, and without one it would fall."""

    def __post_init__(self) -> None:
        at_least("alignment.weight", self.weight, 0)
        at_least("alignment.windows", self.windows, 1)
        if not 0 < self.least_temperature <= self.temperature:
            raise PreflightError(
                f"--alignment.least-temperature {self.least_temperature}: must be above 0 and at "
                f"most --alignment.temperature {self.temperature}"
            )


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """How the weights move. The same for any number of workers."""

    batch_size: int = 32
    """Images in a step, over all workers [C-com]; 256 is usual for cgvlm [L]."""
    micro_batch: int = 4
    """Images that a worker computes at once; the rest of its share follows in further rounds."""
    epochs: float = 1.0
    """Passes over the images."""
    steps: int | None = None
    """Steps, in place of --optim.epochs."""
    learning_rate: float | None = None
    """The highest; by default 2e-4 for LoRA, 2e-5 for full, 1e-3 for the adapter [L]."""
    warm_up: float = 0.03
    """Share of the steps in which the learning rate rises; then it falls along a cosine [L]."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Of AdamW [C-com]."""
    weight_decay: float = 0.0
    """Of AdamW [L]."""
    clip_norm: float = 1.0
    """A longer gradient is scaled down to this."""
    seed: int = 0
    """Of the order, the initial weights and the dropout."""
    window_images: int = 1024
    """Images that are shuffled among each other, after whole files were."""

    def __post_init__(self) -> None:
        for flag in ("batch_size", "micro_batch", "window_images"):
            at_least(f"optim.{flag.replace('_', '-')}", getattr(self, flag), 1)
        if self.steps is not None:
            at_least("optim.steps", self.steps, 1)
        if not self.epochs > 0:
            raise PreflightError(f"--optim.epochs {self.epochs}: must be above 0")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise PreflightError(f"--optim.learning-rate {self.learning_rate}: must be above 0")
        if not self.clip_norm > 0:
            raise PreflightError(f"--optim.clip-norm {self.clip_norm}: must be above 0")
        _share("optim.warm-up", self.warm_up)


@dataclass(frozen=True, kw_only=True)
class Workers:
    """The processes that train, and how they share the model."""

    num: int = 1
    """Workers."""
    least: int | None = None
    """Train on with as few as this when nodes go, and with more when they come back."""
    gpus: float | None = None
    """GPUs of each; by default 1 where the cluster has any."""
    sharding: Literal["ddp", "fsdp"] = "ddp"
    """ddp: each holds the whole model; fsdp: they share its weights (FSDP2, fully_shard)."""
    readers: int = 2
    """Tasks that read records and make batches of them at the same time."""
    max_failures: int = 3
    """Times that a worker may die before the run stops; the same command goes on even then."""

    def __post_init__(self) -> None:
        at_least("workers.num", self.num, 1)
        at_least("workers.readers", self.readers, 1)
        at_least("workers.max-failures", self.max_failures, 0)
        if self.gpus is not None:
            at_least("workers.gpus", self.gpus, 0)
        if self.least is not None and not 1 <= self.least <= self.num:
            raise PreflightError(f"--workers.least {self.least}: must be in 1 to --workers.num {self.num}")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What is measured and saved on the way."""

    log_every: int = 10
    """Steps between two lines of measurements."""
    evaluate_every: int = 200
    """Steps between two evaluations on held-out images."""
    held_out: float = 0.02
    """Share of the images that is only evaluated on, chosen by their ids."""
    max_held_out: int = 512
    """Held-out images that an evaluation reads at most."""
    checkpoint_every: int = 100
    """Steps between two checkpoints."""
    keep: int = 2
    """Checkpoints to keep."""

    def __post_init__(self) -> None:
        for flag in ("log_every", "evaluate_every", "checkpoint_every", "keep", "max_held_out"):
            at_least(f"progress.{flag.replace('_', '-')}", getattr(self, flag), 1)
        _share("progress.held-out", self.held_out)


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is learnt from records, and how."""

    positive_by: RankedBy = "i2c"
    """c3l: the score whose best turn is an image's positive; random is the control."""
    within: Literal["dataset", "kind"] = "dataset"
    """c3l: rank turns by the score itself, or by its standing among the turns of its kind."""
    signed_guard: bool = True
    """c3l: never take a turn as the positive whose gain is below 0; the image refutes it."""
    margin: float = 0.0
    """c3l: turns less than this below the positive are no negatives of it."""
    negatives: Literal["image", "kind"] = "image"
    """c3l: an image's other turns, or those of the positive's kind alone, of which there are some
    where several of a kind are generated (--turns 10). The others differ by their kind already."""
    contrast: Contrast = field(default_factory=Contrast)
    alignment: Alignment = field(default_factory=Alignment)
    optim: Optimization = field(default_factory=Optimization)
    workers: Workers = field(default_factory=Workers)
    progress: Progress = field(default_factory=Progress)
    max_pixels: int = 1_048_576
    """Larger images are shrunk to this, as the generator saw them."""
    verify: bool = True
    """Load the tuned model in vLLM at the end, and have it answer once."""

    def __post_init__(self) -> None:
        at_least("margin", self.margin, 0)
        at_least("max-pixels", self.max_pixels, 1)
        at_least("optim.batch-size", self.optim.batch_size, self.workers.num)


@dataclass(frozen=True, kw_only=True)
class Conversations:
    """Where a LLaVA JSON's images are, and which of its turns are learnt."""

    image_root: str | None = None
    """Folder that the images are relative to; by default the JSON's own."""
    history: Literal["auto", "no"] = "auto"
    """auto: only a conversation's first turn is learnt, as the others follow it; no: every turn,
    each as if it stood alone (the sizes of VIGC's sets suggest that it does that)."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Training):
    """Records in, a tuned checkpoint out."""

    input: tuple[str, ...]
    """The output folder of a jobs.generate or jobs.score run, local or s3://. For vigc also LLaVA
    .json or .jsonl: files or globs."""
    output: str
    """Folder for model/, checkpoints and run.json, local or s3://. The same command resumes."""
    model: Tuned
    objective: objectives.Name = "c3l"
    """c3l: contrast an image's turns by their scores; cgvlm: align patches with captions; vigc:
    learn to write turns and to answer anew, from turns that are good."""
    mixture: Mixture = field(default_factory=Mixture)
    layout: Conversations = field(default_factory=Conversations)

    @property
    def traits(self) -> objectives.Objective:
        """What the objective asks of the rest of the training."""
        return objectives.OBJECTIVES[self.objective]

    @property
    def tune(self) -> objectives.Tune:
        return self.traits.tune if self.model.tune == "auto" else self.model.tune

    @property
    def learning_rate(self) -> float:
        return self.optim.learning_rate or LEARNING_RATES[self.tune]
