"""C3L from images on S3 to a dataset there, and what later commands find done."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from c3l_ray.runs.commit import read_manifests
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes import world
from c3l_ray.storage import Location
from tests.jobs.commands import c3l_flags, call_job, check_refusal, run_job

pytestmark = pytest.mark.timeout(3000)  # many processes, and perhaps two busy cores


def read_report(folder: Location) -> dict[str, Any]:
    folder.fs.invalidate_cache()
    report = (folder / "run.json").read_json()
    assert report is not None
    return report


def test_images_become_a_dataset_and_what_is_done_stays_done(s3: str, tmp_path: Path) -> None:
    world.write_scenes(tmp_path, num_scenes=12, scenes_per_shard=6)
    for path in tmp_path.iterdir():
        (Location.connect(s3) / "in" / path.name).write(path.read_bytes())
    output = Location.connect(f"{s3}/out")

    def make_flags(*more: str) -> list[str]:
        flags = (
            *("--turns-per-image", "3", "--objective", "answers", "--answers", "3"),
            *("--training.optim.steps", "2", "--training.no-verify"),
        )
        return c3l_flags(f"{s3}/in", output.address, *flags, *more)

    done = run_job("c3l", *make_flags(), timeout_s=1400)
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
    assert first["differing_questions"] >= 4
    training = read_report(output / "train-0")
    assert training["objective"] == "answers" and training["left_out_turns"]["answers_agree"] > 0
    for name in ("round-0", "round-1"):
        manifests = read_manifests(RunFolder.open((output / name).address))
        records = (output / name / "records").list_children()
        assert sorted(f"records/{file.name}" for file in records) == sorted(
            str(manifest.file) for manifest in manifests
        )
    files = (output / "dataset").list_children()
    parts = (output / "dataset" / "data").list_children()
    assert sum(map(count_rows, parts)) == 5
    assert "selection.json" in {file.name for file in files} and "round-1" in done.stdout

    page = (output / "report.html").read().decode()
    assert f"  page     {output.address}/report.html" in done.stdout
    assert all(f">{name}<" in page for name in ("round-0", "round-1", "train-0"))

    # A round more begins from the model that the last left; what defines no stage may change.
    more = (
        *("--rounds", "2", "--by", "gain", "--training.optim.micro-batch", "2"),
        *("--tuning.activation-checkpointing", "on", "--training.progress.max-held-out", "3"),
    )
    again = call_job("c3l", *make_flags(*more))
    assert again.returncode == 0, again.stderr + again.stdout
    assert again.stderr.count(" is done") == 3
    assert read_report(output / "round-1")["finished"] == second["finished"]
    assert read_report(output)["stages"]["dataset"]["by"] == "gain"
    training, third = (read_report(output / name) for name in ("train-1", "round-2"))
    assert training["model"]["initial"] == tuned
    assert third["identity"]["model"] == training["model"]["tuned"] not in (initial, tuned)
    assert third["identity"]["scorer"] == initial

    for flags, message in (
        (("--turns-per-image", "4"), "turns_per_image"),
        (("--training.optim.seed", "1"), "train-0: belongs to origin"),
    ):
        check_refusal(call_job("c3l", *make_flags(*flags)), message)


def count_rows(part: Location) -> int:
    with part.open() as file:
        return int(pq.read_metadata(file).num_rows)
