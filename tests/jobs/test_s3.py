"""The jobs with every path on S3."""

from pathlib import Path

from c3l_ray.runs.commit import read_manifests, read_records
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes import world
from c3l_ray.storage import Location
from tests.jobs.commands import generate_flags, run_job


def test_from_s3_to_s3(s3: str, tmp_path: Path) -> None:
    world.write_scenes(tmp_path, num_scenes=6, scenes_per_shard=3)
    for path in tmp_path.iterdir():
        (Location.connect(s3) / "in" / path.name).write(path.read_bytes())

    flags = generate_flags(f"{s3}/in", f"{s3}/run")
    generated = run_job("generate", *flags)
    assert generated.returncode == 0, generated.stderr
    assert "images   6: ok 6" in generated.stdout and f"{s3}/run/records" in generated.stdout
    run = RunFolder.open(f"{s3}/run")
    files = (run.location / "records").list_children()
    manifests = list(read_manifests(run))
    assert {file.name for file in files} == {
        str(manifest.file).removeprefix("records/") for manifest in manifests
    }
    ids = [
        image_id
        for manifest in manifests
        for image_id in read_records(run, manifest)["image_id"].to_pylist()
    ]
    assert len(set(ids)) == len(ids) == 6

    again = run_job("generate", *flags)
    assert again.returncode == 0 and "2 units; 2 of these are done" in again.stderr

    folders = ("--input", f"{s3}/run", "--output", f"{s3}/set")
    selected = run_job("select", *folders, "--top", "0.5", "--llava", "images")
    assert selected.returncode == 0, selected.stderr
    assert {child.name for child in Location.connect(f"{s3}/set").list_children()} == {
        *("llava.json", "dataset_info.json", "images"),
        *("README.md", "part-00000.parquet", "selection.json"),
    }
