"""C3L from images to a dataset, and what a second command finds done."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from c3l_ray.scenes import world
from tests.jobs.commands import check_refusal, read_report, run_c3l

pytestmark = pytest.mark.timeout(3000)  # many processes, and perhaps two busy cores


def test_images_become_a_dataset_and_what_is_done_stays_done(tmp_path: Path) -> None:
    images, output = tmp_path / "in", tmp_path / "out"
    world.write_scenes(images, num_scenes=12, scenes_per_shard=6)
    done = run_c3l(images, output)
    assert done.returncode == 0, done.stderr + done.stdout
    report = read_report(output)
    assert list(report["stages"]) == ["round-0", "train-0", "round-1", "dataset"]
    assert report["finished"] is not None
    first, second = (read_report(output / name) for name in ("round-0", "round-1"))
    tuned = read_report(output / "train-0")["model"]["tuned"]
    # The model that writes changes with the training, the one that scores never.
    initial = first["identity"]["model"]
    assert initial == first["identity"]["scorer"] == second["identity"]["scorer"]
    assert second["identity"]["model"] == tuned != initial
    assert (first["images"], second["images"]) == (12, 12)
    tables = [pq.read_table(path) for path in (output / "dataset").glob("part-*.parquet")]
    assert sum(len(turns) for table in tables for turns in table["turns"].to_pylist()) == 5
    assert (output / "dataset" / "selection.json").is_file() and "round-1" in done.stdout

    # What defines no stage may change.
    again = run_c3l(
        images,
        output,
        *("--by", "gain", "--training.optim.micro-batch", "2"),
        *("--tuning.activation-checkpointing", "on", "--training.progress.max-held-out", "3"),
    )
    assert again.returncode == 0, again.stderr + again.stdout
    assert again.stderr.count(" is done") == 3
    assert read_report(output / "round-1")["finished"] == second["finished"]
    assert read_report(output)["stages"]["dataset"]["by"] == "gain"

    refused = run_c3l(images, output, "--turns-per-image", "4")
    check_refusal(refused, "turns_per_image")
    refused = run_c3l(images, output, "--training.optim.seed", "1")
    check_refusal(refused, "train-0: belongs to origin")
