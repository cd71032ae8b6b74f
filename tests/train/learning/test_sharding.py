"""Two workers load a checkpoint that neither holds whole: real processes over gloo."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from torch.multiprocessing.spawn import spawn

from c3l_ray.scenes import world
from c3l_ray.train.learning.loading import load_learner
from c3l_ray.train.learning.sharding import load_sharded_learner
from c3l_ray.train.learning.trainer import Trainer
from c3l_ray.train.training_config import ModelToTune, Optimization, TrainConfig, Workers
from tests.bench.random_llava import LlavaSize, write_checkpoint
from tests.families import checkpoints
from tests.train.learning.builders import CPU, make_batch

# One with a config of three-part positions, one whose head is its embedding, one with windows.
FAMILIES = ("Qwen2.5-VL", "SmolVLM", "Gemma 3")
CASES = [("shipped", "lora"), ("shipped", "full"), ("shipped", "adapter")] + [
    (family, tune) for family in FAMILIES for tune in ("lora", "full")
]
LARGE = LlavaSize(
    {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_heads": 8},
    {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 2, "num_heads": 2},
)


def make_config(
    checkpoint: Path, tune: Any, *, sharding: Any, precision: Any = "float32"
) -> TrainConfig:
    return TrainConfig(
        input=(),
        output="",
        model=ModelToTune(name=str(checkpoint), tune=tune, precision=precision),
        objective="cgvlm" if tune == "adapter" else "c3l",
        optim=Optimization(batch_size=2, micro_batch=1, learning_rate=1e-2),
        workers=Workers(num=2, sharding=sharding),
    )


def anonymous_bytes() -> int:
    """Memory of this process that is no file's: what it has read into tensors, not what it maps."""
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024


@contextmanager
def measure_peak(peak: list[int]) -> Iterator[None]:
    """Appends by how much this process grew at most meanwhile."""
    start, largest, done = anonymous_bytes(), 0, threading.Event()

    def watch() -> None:
        nonlocal largest
        while not done.wait(0.002):
            largest = max(largest, anonymous_bytes() - start)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        largest = max(largest, anonymous_bytes() - start)
        done.set()
        watcher.join()
        peak.append(largest)


def find_differences(config: TrainConfig, dtype: torch.dtype) -> dict[str, float]:
    """By how much weights and buffers differ from those of a whole; inf where the type does."""
    sharded, whole = load_sharded_learner(config, dtype, CPU), load_learner(config, dtype, CPU)
    differences = {}
    whole_tensors = {**dict(whole.named_parameters()), **dict(whole.named_buffers())}
    sharded_tensors = {**dict(sharded.named_parameters()), **dict(sharded.named_buffers())}
    assert sharded_tensors.keys() == whole_tensors.keys()
    for name, tensor in sharded_tensors.items():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        expected = whole_tensors[name]
        same_kind = full.dtype == expected.dtype and tensor.requires_grad == expected.requires_grad
        difference = (full.detach() - expected.detach()).abs().max() if full.numel() else 0.0
        differences[name] = float(difference) if same_kind else float("inf")
    return differences


def run_worker(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    results: dict[str, Any] = {}
    for name, tune in CASES:
        checkpoint = world.LLAVA if name == "shipped" else folder / name
        config = make_config(checkpoint, tune, sharding="fsdp")
        differences = find_differences(config, torch.float32)
        results[f"{name} {tune}"] = [len(differences), max(differences.values())]
    config = make_config(world.LLAVA, "lora", sharding="fsdp")
    results["bfloat16"] = max(find_differences(config, torch.bfloat16).values())

    config = make_config(world.LLAVA, "lora", sharding="fsdp", precision="bfloat16")
    trainer = Trainer(config, 10, CPU)
    batch = make_batch(config, 0, rank=rank, num_workers=2)
    assert trainer.share_prefixes(batch[0]) == []
    losses = torch.stack([trainer.step(step, batch)["loss"] for step in range(2)])
    dist.all_reduce(losses)
    results["losses in bfloat16"] = losses.tolist()

    config = make_config(folder / "large", "lora", sharding="fsdp")
    for kind, load in (("share", load_sharded_learner), ("whole", load_learner)):
        peak: list[int] = []
        with measure_peak(peak):
            learner = load(config, torch.bfloat16, CPU)  # so that nothing is a mapped file
        results[kind] = peak[0]
        del learner
    (folder / f"rank-{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, list[dict[str, Any]]]:
    """Bytes of the large checkpoint, and what each worker saw."""
    folder = tmp_path_factory.mktemp("workers")
    for family in checkpoints.FAMILIES:
        if family.name in FAMILIES:
            checkpoints.write_checkpoint(family, folder / family.name)
    write_checkpoint(folder / "large", LARGE, 16)
    spawn(run_worker, args=(folder,), nprocs=2)
    results = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]
    return (folder / "large" / "model.safetensors").stat().st_size, results


@pytest.mark.parametrize(("name", "tune"), CASES)
def test_the_shares_are_those_of_the_whole(
    two_workers: tuple[int, list[dict[str, Any]]], name: str, tune: str
) -> None:
    for results in two_workers[1]:
        num_tensors, largest_difference = results[f"{name} {tune}"]
        assert num_tensors > 20 and largest_difference == 0


def test_frozen_shares_are_held_as_they_are_computed(
    two_workers: tuple[int, list[dict[str, Any]]],
) -> None:
    assert [results["bfloat16"] for results in two_workers[1]] == [0, 0]


def test_no_worker_holds_the_whole(two_workers: tuple[int, list[dict[str, Any]]]) -> None:
    size_in_float32, workers = two_workers
    size = size_in_float32 / 2
    assert size > 50e6
    for results in workers:
        print(f"whole {results['whole'] / size:.2f}, share {results['share'] / size:.2f}")
        assert results["whole"] > 0.95 * size  # what the measurement sees
        assert results["share"] < 0.75 * size


def test_shares_in_bfloat16_learn_what_the_whole_does(
    two_workers: tuple[int, list[dict[str, Any]]],
) -> None:
    config = make_config(world.LLAVA, "lora", sharding="ddp", precision="bfloat16")
    trainer = Trainer(config, 10, CPU)
    batch = make_batch(config, 0)
    losses = [trainer.step(step, batch)["loss"].item() for step in range(2)]
    for results in two_workers[1]:
        assert results["losses in bfloat16"] == pytest.approx(losses, rel=0.02)
