"""Who may import what, walked in the sources: the table of the architecture, held."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOP = {"schema", "config", "origin", "errors", "images", "chat", "model_files"}
EVERYTHING_BELOW_JOBS = {*TOP, "methods", "scenes", "inference", "data", "evaluation"}
# layer: the layers it may import beside itself, and the third parties
LAYERS: dict[str, tuple[set[str], set[str]]] = {
    **{name: ({*TOP, "methods"}, {"pyarrow", "numpy", "PIL"}) for name in TOP},
    "model_files": (set(), {"fsspec"}),
    "methods": (TOP, {"numpy"}),
    "scenes": ({*TOP, "methods"}, {"PIL", "numpy"}),
    "inference": (
        {*TOP, "methods", "scenes"},
        {
            "pyarrow",
            "numpy",
            "PIL",
            "torch",
            "transformers",
            "open_clip",
            "vllm",
            "psutil",
        },
    ),
    "train": (
        {*TOP, "methods"},
        {
            *("pyarrow", "numpy", "PIL", "torch", "transformers", "peft", "safetensors"),
            *("huggingface_hub", "tensorboardX", "ray"),
        },
    ),
    "data": (
        EVERYTHING_BELOW_JOBS,
        {"ray", "pyarrow", "numpy", "PIL", "fsspec", "botocore"},
    ),
    "evaluation": (EVERYTHING_BELOW_JOBS, {"pyarrow"}),
    "jobs": ({*EVERYTHING_BELOW_JOBS, "train", "jobs"}, {"tyro", "pyarrow", "ray"}),
}
ONLY = {
    "vllm": "c3l_ray/inference/engine.py",
    "map_batches_internal": "c3l_ray/data/pipeline.py",
}
TRAINING = {"torch", "transformers", "open_clip", "tokenizers", "safetensors", "tyro"}
MAKES_THE_WEIGHTS = ("c3l_ray/scenes/train.py", "c3l_ray/scenes/training/")


def sources() -> Iterator[Path]:
    for folder in ("c3l_ray", "jobs"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def layer_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if parts[0] == "c3l_ray" and len(parts) > 1 else parts[0]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            if module == "c3l_ray":
                yield from (f"c3l_ray.{name.name}" for name in node.names)
            else:
                yield module


@pytest.mark.parametrize("path", list(sources()), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_only_what_its_layer_may(path: Path) -> None:
    relative = str(path.relative_to(ROOT))
    module = relative.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    if module == "c3l_ray":
        return
    layer = layer_of(module)
    layers, third_parties = LAYERS[layer]
    if relative.startswith(MAKES_THE_WEIGHTS):
        third_parties = third_parties | TRAINING
    for name in imported(path):
        root = name.split(".")[0]
        if root in ("c3l_ray", "jobs"):
            assert layer_of(name) in {*layers, layer}, f"{relative} imports {name}"
        elif root not in sys.stdlib_module_names:
            assert root in third_parties, f"{relative} imports {name}"


@pytest.mark.parametrize(("word", "home"), list(ONLY.items()))
def test_some_things_have_one_home(word: str, home: str) -> None:
    uses = [
        str(path.relative_to(ROOT))
        for path in sources()
        if any(
            (isinstance(node, ast.Attribute) and node.attr == word)
            or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == word)
            for node in ast.walk(ast.parse(path.read_text()))
        )
    ]
    assert uses == [home]


def test_actors_do_not_import_ray() -> None:
    for path in (ROOT / "c3l_ray" / "inference").glob("*.py"):
        assert not any(name.split(".")[0] == "ray" for name in imported(path)), path


def test_training_meets_ray_in_two_files_only() -> None:
    for path in (ROOT / "c3l_ray" / "train").glob("*.py"):
        if path.name not in ("fit.py", "stream.py"):
            assert not any(name.split(".")[0] == "ray" for name in imported(path)), path
