"""Which part may import which, walked in the sources: no more and no less than here.

A part is a module or a package, named without `c3l_ray.`; a file belongs to the longest name that
it lies under. An import that the table allows and no file uses is as much a fault as one that it
does not allow.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Part:
    """What a part may import: other parts, and libraries, by their names with blanks between."""

    parts: str = ""
    libraries: str = ""


PARTS = {
    "errors": Part(),
    "ranges": Part("errors"),
    "flags": Part("", "tyro"),
    "stopping": Part("errors"),
    "stall_watch": Part(),
    "stop_jobs": Part("", "psutil"),
    "kuberay_job": Part("runs"),
    "storage_faults": Part("", "botocore"),
    "storage": Part("errors storage_faults", "fsspec botocore s3fs"),
    "png_chunks": Part("errors", "PIL"),
    "grey_depths": Part("errors", "numpy PIL"),
    "images": Part("errors grey_depths png_chunks", "PIL pillow_heif"),
    "model_files": Part("storage", "huggingface_hub safetensors"),
    "image_memo": Part("", "PIL"),
    "template_args": Part(),
    "template_date": Part(),
    "processors": Part("errors model_files template_args", "jinja2 transformers"),
    "chat": Part("methods template_date"),
    "schema": Part("methods.scores", "pyarrow"),
    "model_config": Part("flags ranges template_args"),
    "config": Part(
        "errors flags inputs.layout methods methods.scores model_config no_score ranges "
        "stall_watch stopping template_date"
    ),
    "answer_config": Part("config flags inputs.layout model_config ranges"),
    "benchmark_config": Part("answer_config flags inputs.layout model_config ranges"),
    "no_score": Part("errors ranges"),
    "kind_shares": Part(),
    "select_config": Part("flags kind_shares methods.scores ranges"),
    "identity": Part("answer_config config methods schema"),
    # What is known of the papers knows no model, no file and no process.
    "methods.scores": Part(),
    "methods": Part("flags methods.scores ranges schema", "numpy"),
    # From files to rows, and from rows to committed files: neither torch nor Ray.
    "runs": Part("config errors identity methods methods.scores schema storage", "pyarrow"),
    "inputs.layout": Part("flags"),
    "inputs": Part("errors inputs.layout runs schema storage", "pyarrow"),
    "dataset": Part(
        "errors images inputs inputs.layout kind_shares methods methods.scores no_score runs "
        "schema select_config storage",
        "huggingface_hub numpy pdqhash PIL pyarrow",
    ),
    # Benchmarks' files to questions, and answers to figures: neither models nor Ray.
    "benchmarks": Part(
        "benchmark_config errors identity inputs runs scenes schema storage",
        "numpy pyarrow scipy",
    ),
    # What people look at: it reads what jobs wrote, and models' tokenizers at most.
    "report": Part(
        "benchmarks chat errors images inputs methods methods.scores no_score processors runs "
        "schema storage template_date",
        "huggingface_hub jinja2 markupsafe numpy pyarrow",
    ),
    # What a run will cost: arithmetic over a count of the input and a sample that was run.
    "planning": Part(
        "config errors inputs inputs.layout model_config runs schema", "numpy pyarrow scipy"
    ),
    # Models: they work on tables and tokens, and know neither files of records nor Ray.
    "inference.logit_transform": Part("", "torch transformers"),
    "inference": Part(
        "answer_config chat config errors image_memo images inference.large_imports "
        "inference.logit_transform inference.model_inputs inference.pack_attention "
        "inference.packing inference.rounding inference.whole_model methods model_config "
        "model_files processors schema stall_watch template_date",
        "huggingface_hub numpy open_clip PIL psutil pyarrow torch transformers vllm",
    ),
    "inference.large_imports": Part(),
    # What training takes from scoring: whole models, rows of inputs, packs, and what models do to
    # their logits.
    "inference.whole_model": Part("errors inference.large_imports", "transformers"),
    "inference.pack_attention": Part("inference.packing", "torch"),
    "inference.packing": Part("", "numpy"),
    "inference.model_inputs": Part("", "torch"),
    "inference.rounding": Part("", "torch"),
    # The only Ray Data over records.
    "distributed": Part(
        "answer_config config distributed.stop_flag errors inference inputs inputs.layout "
        "model_config runs schema stall_watch stopping",
        "pyarrow ray torch",
    ),
    # How training stops, too.
    "distributed.stop_flag": Part("stopping", "ray"),
    # Training: from records to batches, from batches to weights, and Ray Train on top of both.
    "train.objectives": Part("methods ranges"),
    "train.mixture_config": Part("errors methods ranges schema"),
    "train.tuning_config": Part("flags ranges template_args train.objectives"),
    "train.training_config": Part(
        "flags inputs.layout methods ranges stopping template_date train.mixture_config "
        "train.objectives train.tuning_config"
    ),
    "train.reading.stream": Part("schema train.reading train.training_config", "numpy pyarrow ray"),
    "train.reading": Part(
        "chat errors image_memo images inference.model_inputs inputs inputs.layout methods "
        "methods.scores processors runs schema storage template_date train.mixture_config "
        "train.objectives train.training_config no_score",
        "numpy PIL pyarrow torch",
    ),
    "train.learning": Part(
        "chat errors inference.logit_transform inference.pack_attention inference.packing "
        "inference.rounding inference.whole_model methods model_files train.objectives "
        "train.reading train.training_config train.tuning_config",
        "accelerate peft PIL safetensors tensorboardX torch transformers",
    ),
    "train.held_out": Part(
        "chat errors images methods schema train.learning train.objectives train.reading "
        "train.reading.stream train.training_config",
        "ray",
    ),
    "train.fit": Part(
        "distributed.stop_flag train.held_out train.learning train.reading "
        "train.reading.stream train.snapshot train.training_config",
        "ray torch",
    ),
    "train.snapshot": Part("storage", "ray"),
    "train.identity": Part("identity schema train.reading train.training_config"),
    # The world whose truth is known, and its models.
    "scenes": Part("", "numpy PIL"),
    "scenes.training": Part(
        "methods ranges scenes", "numpy open_clip safetensors tokenizers torch transformers"
    ),
    "scenes.make_weights": Part("errors scenes.training", "torch tyro"),
    "evaluation": Part(
        "config dataset errors inference methods methods.scores model_config runs scenes "
        "scenes.training schema select_config",
        "numpy pyarrow",
    ),
    # What a job does, as functions; and the jobs, which parse, call and print.
    "workflows": Part(
        "answer_config benchmark_config benchmarks chat config dataset distributed "
        "distributed.stop_flag errors flags identity images inference inputs inputs.layout "
        "methods.scores model_config model_files no_score planning processors ranges report "
        "runs schema select_config stopping storage train.fit train.identity "
        "train.learning train.reading train.training_config train.tuning_config",
        "ray",
    ),
    "jobs": Part(
        "answer_config benchmark_config benchmarks config dataset errors evaluation flags "
        "methods.scores model_config planning ranges runs scenes select_config stopping "
        "storage train.training_config train.tuning_config workflows",
        "pydantic tyro",
    ),
}
USED_IN_ONE_FILE = {
    "vllm": "c3l_ray/inference/engine.py",
    "map_batches_internal": "c3l_ray/distributed/pipeline.py",
}
MAX_LINES = 300
MAY_PRINT = ("jobs/", "c3l_ray/kuberay_job.py", "c3l_ray/scenes/make_weights.py")


def find_sources() -> list[Path]:
    return [
        path for folder in ("c3l_ray", "jobs") for path in sorted((ROOT / folder).rglob("*.py"))
    ]


SOURCES = {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in find_sources()}


def find_part(module: str) -> str | None:
    """The part that a module, or a name in one, belongs to; None where it belongs to none."""
    name = module.removeprefix("c3l_ray.")
    while name not in PARTS and "." in name:
        name = name.rpartition(".")[0]
    return name if name in PARTS else None


PART_OF_SOURCE = {
    source: find_part(source.removesuffix(".py").replace("/", ".")) for source in SOURCES
}


def list_imports(source: str) -> Iterator[str]:
    """The names that a file imports, wherever in it, each with its module."""
    for node in ast.walk(SOURCES[source]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def split_imports(source: str) -> tuple[set[str], set[str]]:
    """The other parts that a file imports, and the libraries."""
    parts, libraries = set(), set()
    for name in list_imports(source):
        root = name.partition(".")[0]
        if root in ("c3l_ray", "jobs"):
            part = find_part(name)
            assert part is not None or name == "c3l_ray.__version__", f"{source} imports {name}"
            parts |= {part} if part is not None else set()
        elif root not in sys.stdlib_module_names:
            libraries.add(root)
    return parts - {PART_OF_SOURCE[source]}, libraries


@pytest.mark.parametrize("source", SOURCES)
def test_a_file_imports_only_what_its_part_may(source: str) -> None:
    name = PART_OF_SOURCE[source]
    part = Part() if name is None else PARTS[name]
    parts, libraries = split_imports(source)
    assert parts <= {*part.parts.split()}
    assert libraries <= {*part.libraries.split()}


@pytest.mark.parametrize("name", PARTS)
def test_every_import_that_a_part_may_use_is_used(name: str) -> None:
    imports = [split_imports(source) for source, part in PART_OF_SOURCE.items() if part == name]
    assert {*PARTS[name].parts.split()} <= {part for parts, _ in imports for part in parts}
    used_libraries = {library for _, libraries in imports for library in libraries}
    assert {*PARTS[name].libraries.split()} <= used_libraries


def test_parts_do_not_import_each_other_in_a_circle() -> None:
    remaining = {name: {*part.parts.split()} for name, part in PARTS.items()}
    while remaining:
        free = [name for name, used in remaining.items() if not used & remaining.keys()]
        assert free, f"a circle among {sorted(remaining)}"
        for name in free:
            del remaining[name]


@pytest.mark.parametrize(("word", "home"), list(USED_IN_ONE_FILE.items()))
def test_some_things_have_one_home(word: str, home: str) -> None:
    uses = [
        source
        for source, tree in SOURCES.items()
        if any(
            (isinstance(node, ast.Attribute) and node.attr == word)
            or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == word)
            for node in ast.walk(tree)
        )
    ]
    assert uses == [home]


def test_no_file_is_too_long_to_read() -> None:
    lengths = {
        str(path): len(path.read_text().splitlines())
        for folder in ("c3l_ray", "jobs")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}


def test_only_commands_print() -> None:
    printing = {
        source
        for source, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    }
    assert printing and all(source.startswith(MAY_PRINT) for source in printing)
