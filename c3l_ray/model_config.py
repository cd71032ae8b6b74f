"""What a user can set of models and of the processes that run them: flags as those of `config`."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from c3l_ray.flags import optional
from c3l_ray.ranges import Conflicts, Range
from c3l_ray.template_args import find_faults

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Baseline = Literal["none", "grey", "blur", "mismatched"]


@dataclass(frozen=True, kw_only=True)
class GeneratorModel:
    """The model that writes turns, and answers to their questions."""

    name: str
    """Hub name, local path or s3:// folder of a vision-language model."""
    revision: Annotated[str | None, optional("STR")] = None
    """Branch, tag or commit of a hub name (default: the latest commit, the same for all nodes)."""
    trust_remote_code: bool = False
    """Run the code that comes with the model, where transformers has none for it."""
    dtype: Dtype = "auto"
    """Precision of the weights; auto takes the checkpoint's own, bfloat16 in place of float32."""
    max_len: Annotated[int | None, Range(min=1), optional("INT")] = None
    """Longest prompt and reply together, in tokens (default: what this run's requests need)."""
    max_seqs: Annotated[int, Range(min=1)] = 256
    """Requests that one engine works on at once."""  # why so many: inference/engine_settings.py
    step_tokens: Annotated[int | None, Range(min=1), optional("INT")] = None
    """Tokens of one step of the engine (default on a GPU: 16384, or 8192 below 40 GB for it)."""
    tensor_parallel: Annotated[int, Range(min=1)] = 1
    """GPUs that share one copy of the weights."""
    gpu_memory: Annotated[float | None, Range(above=0, max=1), optional("FLOAT")] = None
    """Share of a GPU's memory for the engine (default: 0.9 of --pools.generator-gpus)."""
    template_args: Annotated[tuple[str, ...], optional("NAME=JSON ...")] = ()
    """Arguments of its chat template (default: enable_thinking=false, where it knows that)."""

    def conflicts(self) -> Conflicts:
        yield from (("template_args", fault) for fault in find_faults(self.template_args))


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How replies are drawn. A turn's own seed comes from its image, its place and `seed`."""

    temperature: Annotated[float, Range(min=0)] = 0.7
    """Sampling temperature; 0 always takes the likeliest token."""
    top_p: Annotated[float, Range(above=0, max=1)] = 1.0
    """Draw from the likeliest tokens that hold this share of the probability."""
    max_tokens: Annotated[int, Range(min=1)] = 512
    """Longest reply; one that is cut there becomes a turn of status truncated."""
    seed: Annotated[int, Range(min=0)] = 0
    """Seed of the requests; with another one an image gets other wordings and other replies."""


@dataclass(frozen=True, kw_only=True)
class ScorerModel:
    """The frozen model whose belief in an answer is measured with and without the image."""

    name: Annotated[str | None, optional("STR")] = None
    """Hub name, local path or s3:// folder (default: the generator itself, before any tuning)."""
    revision: Annotated[str | None, optional("STR")] = None
    """Branch, tag or commit of --scorer.name (default: the latest, the same for all nodes)."""
    trust_remote_code: bool = False
    """Run the code that comes with --scorer.name, where transformers has none for it."""
    dtype: Dtype = "auto"
    """Precision of the weights; auto takes the checkpoint's own."""
    max_tokens: Annotated[int, Range(min=1)] = 8192
    """Tokens in one forward pass, padding included; bounds the memory beside the weights."""
    pack: bool = True
    """Compute what an image's turns share only once; scores are the same up to rounding."""
    baseline: Baseline = "none"
    """What replaces the image for the side without it: nothing, grey, a blur, or another image."""
    template_args: Annotated[tuple[str, ...], optional("NAME=JSON ...")] = ()
    """Arguments of its chat template (default: the generator's, as far as it knows them)."""

    def conflicts(self) -> Conflicts:
        yield from (("template_args", fault) for fault in find_faults(self.template_args))


@dataclass(frozen=True, kw_only=True)
class RequiredScorerModel(ScorerModel):
    """The frozen model whose belief in an answer is measured with and without the image."""

    name: str = field()  # no default: there is no generator to fall back on
    """Hub name, local path or s3:// folder of a vision-language model."""
    template_args: Annotated[tuple[str, ...], optional("NAME=JSON ...")] = ()
    """Arguments of its chat template (default: enable_thinking=false, where it knows that)."""


@dataclass(frozen=True, kw_only=True)
class ClipModel:
    """The open_clip model behind the `clip` score: the cosine of an image and its turn's text."""

    name: str = "ViT-B-32"
    """An open_clip architecture, a hub name as hf-hub:OWNER/NAME, or the path of a local model."""
    weights: str | None = "laion2b_s34b_b79k"
    """Tag or file of the weights; hub names and local models carry their own."""


@dataclass(frozen=True, kw_only=True)
class ScorerPool:
    """How many processes score, and what each is given."""

    scorers: Annotated[int | None, Range(min=1), optional("INT")] = None
    """Processes that score (default: what fills the GPUs, or 1 where there is none)."""
    scorer_gpus: Annotated[float | None, Range(min=0), optional("FLOAT")] = None
    """GPUs of each scorer (default: as its weights need; beside generators 0.5, or 0.3 of one)."""


@dataclass(frozen=True, kw_only=True)
class Pools(ScorerPool):
    """How many processes do the work, and what each is given."""

    generators: Annotated[int | None, Range(min=1), optional("INT")] = None
    """Processes that generate, each with an engine (default: what fills the GPUs, or 1)."""
    generator_gpus: Annotated[float | None, Range(min=0), optional("FLOAT")] = None
    """GPUs of each generator (default: --model.tensor-parallel, or 0.7 where there is one GPU)."""
