"""Which model a training begins with, and how much of it learns: flags, as in `training_config`."""

from dataclasses import dataclass
from typing import Annotated, Literal

from c3l_ray.flags import optional
from c3l_ray.ranges import Conflicts, Range
from c3l_ray.template_args import find_faults
from c3l_ray.train.objectives import TuneMode

TuneChoice = Literal["auto", TuneMode]


@dataclass(frozen=True, kw_only=True)
class TuningOptions:
    """How much of a model is tuned."""

    # auto is adapter for the objective cgvlm, and lora for the others. VIGC trains a Q-Former
    # that reads the prompt, and its projection; other models have no such part, so that lora is our
    # reading.
    tune: TuneChoice = "auto"
    """Tune by LoRA on the language half, all of it, or the vision adapter; auto: by objective."""
    # Weights that learn are float32 in any case.
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the computation; auto is bfloat16 on GPUs that have it."""
    lora_rank: Annotated[int, Range(min=1)] = 16
    """Rank of the LoRA matrices [C-com]."""
    lora_alpha: float = 64.0
    """Scale of the LoRA update, times the rank [C-com]."""
    lora_dropout: Annotated[float, Range(min=0, below=1)] = 0.0
    """Dropout before the LoRA matrices."""
    max_len: Annotated[int, Range(min=1)] = 2048
    """Longest prompt and reply in tokens, image tokens counted; longer ones are skipped."""
    activation_checkpointing: Literal["auto", "on", "off"] = "auto"
    """Compute activations twice, so that fewer are held in memory; auto: on GPUs."""


@dataclass(frozen=True, kw_only=True)
class ModelName:
    """The model to begin with."""

    name: str
    """Hub name, local path or s3:// folder of a vision-language model in safetensors."""
    revision: Annotated[str | None, optional("STR")] = None
    """Branch, tag or commit of a hub name (default: the latest commit, the same for all nodes)."""
    template_args: Annotated[tuple[str, ...], optional("NAME=JSON ...")] = ()
    """Arguments of its chat template (default: enable_thinking=false, where it knows that)."""

    def conflicts(self) -> Conflicts:
        yield from (("template_args", fault) for fault in find_faults(self.template_args))
