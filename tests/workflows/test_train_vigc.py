"""Trainings with the objective vigc: from a run's records, and from LLaVA's JSON."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.inference.model_check import check_model
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.language import draw_turn
from c3l_ray.schema import VERSION
from c3l_ray.train.mixture_config import Mixture
from c3l_ray.train.training_config import (
    ConversationLayout,
    ModelToTune,
    Optimization,
    Progress,
    TrainConfig,
    Workers,
)
from c3l_ray.workflows.summaries import summarize_training
from c3l_ray.workflows.train import train_model
from tests.inputs.messages import llava_messages
from tests.runs.tables import make_report
from tests.train.records import encode_png, write_run

STEPS = 16

pytestmark = pytest.mark.timeout(1500)


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
        pairs = [draw_turn(draw_scene(0), turn_kind, rng) for turn_kind in (kind, "short")]
        messages = llava_messages(
            *(message for pair in pairs for message in zip(("human", "gpt"), pair, strict=True))
        )
        messages[0]["value"] += "\n<image>"
        for number in numbers:
            (folder / "images" / f"{number}.png").write_bytes(encode_png(draw_scene(number)))
            samples.append({"id": number, "image": f"{number}.png", "conversations": messages})
        if name.endswith(".jsonl"):
            (folder / name).write_text("\n".join(map(json.dumps, samples)))
        else:
            (folder / name).write_text(json.dumps(samples))
    return folder


def make_config(output: Path, *inputs: Path, **changes: Any) -> TrainConfig:
    fields: dict[str, Any] = {
        "input": tuple(map(str, inputs)),
        "output": str(output),
        "model": ModelToTune(name=str(world.LLAVA)),
        "objective": "vigc",
        "optim": Optimization(batch_size=8, steps=STEPS, learning_rate=5e-3, shuffle_window=16),
        "workers": Workers(readers=1),
        "progress": Progress(log_every=1, checkpoint_every=STEPS, held_out=0.2),
        "layout": ConversationLayout(),
        "verify": False,
    }
    return TrainConfig(**{**fields, **changes})


def make_llava_config(folder: Path, output: Path, **changes: Any) -> TrainConfig:
    fields: dict[str, Any] = {
        "layout": ConversationLayout(image_root=str(folder / "images")),
        "mixture": Mixture(kinds=("detail.json=detail", "complex.jsonl=reasoning")),
        **changes,
    }
    files = (folder / name for name in ("conversation.json", "detail.json", "complex.jsonl"))
    return make_config(output, *files, **fields)


@pytest.mark.usefixtures("local_cluster")
@pytest.mark.parametrize("source", ["run", "llava"])
def test_the_loss_falls(source: str, llava: Path, tmp_path: Path) -> None:
    if source == "run":
        write_run(tmp_path / "run", num_scenes=12)
        config = make_config(tmp_path / "tuned", tmp_path / "run")
        names = {"dialogue", "detail", "reasoning", "short", "yes_no"}
    else:
        config = make_llava_config(llava, tmp_path / "tuned")
        names = {f"{llava.name}/conversation.json", "detail.json", "complex.jsonl"}
    report = train_model(config)
    lines = json.loads((tmp_path / "tuned" / "measurements.json").read_text())
    losses = [line["loss"] for line in lines]
    assert len(losses) == STEPS and sum(losses[-5:]) < 0.95 * sum(losses[:5])
    assert isinstance(lines[-1]["held_out_nll"], float) and "contrastive" not in lines[-1]
    written = json.loads((tmp_path / "tuned" / "run.json").read_text())
    assert written["finished"] and written["tune"] == report.tune == "lora"
    assert written["mixture"] == report.mixture and report.mixture.keys() == names
    assert report.images + report.held_out_images == (12 if source == "run" else 44)
    assert report.held_out_images > 0
    sizes = [turn_set["turns"] for turn_set in report.mixture.values()]
    shares = [turn_set["share"] for turn_set in report.mixture.values()]
    assert sum(sizes) == report.images * (5 if source == "run" else 1)
    roots = [size**0.5 for size in sizes]
    assert shares == pytest.approx([root / sum(roots) for root in roots], abs=1e-4)
    assert written["identity"]["mixture"]["weighting"] == "sqrt"
    tuned = check_model("--output", str(tmp_path / "tuned" / "model"))
    assert tuned == report.model["tuned"] == written["model"]["tuned"]
    assert tuned != report.model["initial"]
    summary = summarize_training(report, config.output)
    assert "mixture" in summary and "--method vigc" in summary and "\n\n" not in summary


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optim": Optimization(batch_size=45)}, "44 images to learn from, fewer than --optim.bat"),
        ({"mixture": Mixture(kinds=("no.json=detail",))}, "no.json=detail: matches no input file"),
        (
            {"layout": ConversationLayout(image_root="/nowhere")},
            "--layout.image-root names the folder",
        ),
        ({"objective": "c3l"}, "must be the output folder of one run"),
        ({"input": ()}, "must be the output folder of one run"),
        ({"input": ("/nowhere.json",)}, "--input /nowhere.json: does not exist"),
        ({"input": ("/nowhere",)}, "--input /nowhere: does not exist"),
    ],
)
def test_an_impossible_training_is_refused_before_the_start(
    llava: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    fields = {"progress": Progress(held_out=0.0), **changes}
    with pytest.raises(PreflightError, match=message) as raised:
        train_model(make_llava_config(llava, tmp_path / "tuned", **fields))
    assert "\n" not in str(raised.value)


def test_an_output_of_another_mixture_is_refused(llava: Path, tmp_path: Path) -> None:
    identity = {"schema": VERSION, "mixture": {"weighting": "even"}}
    report = make_report(job="train", identity=identity, finished=None)
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "run.json").write_text(json.dumps(report))
    (tmp_path / "tuned" / "model").mkdir()
    (tmp_path / "tuned" / "model" / "config.json").write_text("{}")
    with pytest.raises(PreflightError, match=r"mixture\.weighting: 'even' there"):
        train_model(make_llava_config(llava, tmp_path / "tuned"))
