"""The jobs with every path on S3."""

import io
from pathlib import Path

import pyarrow.parquet as pq

from c3l_ray import storage
from c3l_ray.scenes import world
from tests.jobs.test_generate import generate_flags, run


def test_from_s3_to_s3(s3: str, tmp_path: Path) -> None:
    world.write_scenes(tmp_path, num_scenes=6, scenes_per_shard=3)
    fs, root = storage.connect("--input", s3)
    fs.put(f"{tmp_path}/", f"{root}/in/", recursive=True)

    flags = generate_flags(f"{s3}/in", f"{s3}/run")
    generated = run("generate", *flags)
    assert generated.returncode == 0, generated.stderr
    assert "images   6: ok 6" in generated.stdout and f"{s3}/run/records" in generated.stdout
    fs.invalidate_cache()
    files = fs.glob(f"{root}/run/records/*.parquet")
    rows = [row for f in files for row in pq.read_table(io.BytesIO(fs.cat_file(f))).to_pylist()]
    assert len({row["image_id"] for row in rows}) == len(rows) == 6

    again = run("generate", *flags)
    assert again.returncode == 0 and "2 units; 2 of these are done" in again.stdout

    selected = run("select", "--input", f"{s3}/run", "--output", f"{s3}/set", "--top", "0.5")
    assert selected.returncode == 0, selected.stderr
    fs.invalidate_cache()
    assert {"llava.json", "part-00000.parquet", "selection.json", "images"} == {
        path.rpartition("/")[2] for path in fs.ls(f"{root}/set", detail=False)
    }
