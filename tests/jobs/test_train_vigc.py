"""The training job with the objective vigc: from a run's records, and from LLaVA's JSON."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from c3l_ray.distributed import cluster
from c3l_ray.errors import PreflightError
from c3l_ray.inference.model_check import check_vlm
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.language import draw_turn
from c3l_ray.train.training_config import Conversations, Optimization, Progress, TrainConfig, Tuned, Workers
from c3l_ray.train.reading.mixture import Mixture
from jobs.train import closing_summary, train
from tests.train.records import png, write_run

STEPS = 16

pytestmark = pytest.mark.timeout(1500)


@pytest.fixture(scope="module")
def local_cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        # Ray Train looks at a worker every so many seconds; here steps are short.
        patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
        cluster.connect(2)
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files as LLaVA-150K has them, and their images.

    All conversations of a file say the same, so that whatever model it is can learn it in no time.
    """
    folder = tmp_path_factory.mktemp("llava")
    (folder / "images").mkdir()
    for name, kind, numbers in (
        ("conversation.json", "dialogue", range(20)),
        ("detail.json", "detail", range(20, 30)),
        ("complex.jsonl", "reasoning", range(30, 44)),
    ):
        samples, rng = [], random.Random(0)
        messages = [
            {"from": role, "value": value}
            for each in (kind, "short")
            for role, value in zip(
                ("human", "gpt"), draw_turn(draw_scene(0), each, rng), strict=True
            )
        ]
        messages[0]["value"] += "\n<image>"
        for number in numbers:
            (folder / "images" / f"{number}.png").write_bytes(png(draw_scene(number)))
            samples.append({"id": number, "image": f"{number}.png", "conversations": messages})
        if name.endswith(".jsonl"):
            (folder / name).write_text("\n".join(map(json.dumps, samples)))
        else:
            (folder / name).write_text(json.dumps(samples))
    return folder


def config(output: Path, *inputs: Path, **changed: Any) -> TrainConfig:
    fields: dict[str, Any] = {
        "input": tuple(map(str, inputs)),
        "output": str(output),
        "model": Tuned(name=str(world.LLAVA)),
        "objective": "vigc",
        "optim": Optimization(batch_size=8, steps=STEPS, learning_rate=5e-3, window_images=16),
        "workers": Workers(readers=1),
        "progress": Progress(log_every=1, checkpoint_every=STEPS, held_out=0.2),
        "layout": Conversations(),
        "verify": False,
    }
    return TrainConfig(**{**fields, **changed})


def of_llava(folder: Path, output: Path, **changed: Any) -> TrainConfig:
    fields: dict[str, Any] = {
        "layout": Conversations(image_root=str(folder / "images")),
        "mixture": Mixture(kinds=("detail.json=detail", "complex.jsonl=reasoning")),
        **changed,
    }
    files = (folder / name for name in ("conversation.json", "detail.json", "complex.jsonl"))
    return config(output, *files, **fields)


@pytest.mark.usefixtures("local_cluster")
@pytest.mark.parametrize("source", ["run", "llava"])
def test_the_loss_falls(source: str, llava: Path, tmp_path: Path) -> None:
    if source == "run":
        write_run(tmp_path / "run", num_scenes=12)
        run_of = config(tmp_path / "tuned", tmp_path / "run")
        names = {"dialogue", "detail", "reasoning", "short", "yes_no"}
    else:
        run_of = of_llava(llava, tmp_path / "tuned")
        names = {f"{llava.name}/conversation.json", "detail.json", "complex.jsonl"}
    train(run_of)
    lines = json.loads((tmp_path / "tuned" / "measurements.json").read_text())
    losses = [line["loss"] for line in lines]
    assert len(losses) == STEPS and sum(losses[-5:]) < 0.95 * sum(losses[:5])
    assert isinstance(lines[-1]["held_out_nll"], float) and "contrastive" not in lines[-1]
    run = json.loads((tmp_path / "tuned" / "run.json").read_text())
    assert run["finished"] and run["tuned"] == "lora" and run["sets"].keys() == names
    assert run["images"] + run["held_out"] == (12 if source == "run" else 44)
    assert run["held_out"] > 0
    sizes = [each["turns"] for each in run["sets"].values()]
    shares = [each["share"] for each in run["sets"].values()]
    assert sum(sizes) == run["images"] * (5 if source == "run" else 1)
    roots = [size**0.5 for size in sizes]
    assert shares == pytest.approx([root / sum(roots) for root in roots], abs=1e-4)
    assert run["facts"]["mixture"]["by"] == "sqrt"
    assert check_vlm("--output", str(tmp_path / "tuned" / "model")) == run["model"]["tuned"]
    assert run["model"]["tuned"] != run["model"]["trained_from"]
    summary = closing_summary(run, run_of.output)
    assert "mixture" in summary and "--method vigc" in summary and "\n\n" not in summary


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"optim": Optimization(batch_size=45)}, "44 images to learn from, fewer than --optim.bat"),
        ({"mixture": Mixture(kinds=("no.json=detail",))}, "no.json=detail: no turns made elsewh"),
        ({"layout": Conversations(image_root="/nowhere")}, "--layout.image-root names the folder"),
        ({"objective": "c3l"}, "must be the output folder of one run"),
        ({"input": ()}, "must be the output folder of one run"),
        ({"input": ("/nowhere.json",)}, "--input /nowhere.json: does not exist"),
        ({"input": ("/nowhere",)}, "--input /nowhere: not the output of a run"),
    ],
)
def test_what_cannot_be_learnt_is_refused_before_the_start(
    llava: Path, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    fields = {"progress": Progress(held_out=0.0), **changed}
    with pytest.raises(PreflightError, match=message) as refused:
        train(of_llava(llava, tmp_path / "tuned", **fields))
    assert "\n" not in str(refused.value)


def test_an_output_of_another_mixture_is_refused(llava: Path, tmp_path: Path) -> None:
    run_of = of_llava(llava, tmp_path / "tuned")
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "run.json").write_text(
        json.dumps({"origin": "other", "facts": {"mixture": {"by": "even"}}, "finished": None})
    )
    with pytest.raises(PreflightError, match=r"mixture: \{'by': 'even'\} there"):
        train(run_of)
