import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from c3l_ray.errors import PreflightError
from c3l_ray.scenes.world import write_shard
from tests.examples import EncodeImage
from tests.inputs.shards import find_shards, read_rows


def test_a_file_or_a_folder_is_found_in_order(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.tar", "a.tar", "deep/c.tar"):
        write_shard(tmp_path / name, [("1.jpg", b"x")])
    (tmp_path / "readme.txt").write_text("not a shard")
    assert [shard.source for shard in find_shards(tmp_path)] == ["a.tar", "b.tar", "deep/c.tar"]
    assert [shard.source for shard in find_shards(tmp_path / "b.tar")] == ["b.tar"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("absent", "does not exist"),
        ("empty", "holds no .tar, no .parquet and no images"),
        ("file.zip", "not a .tar, .parquet or LLaVA .json"),
        ("ftp://somewhere/x", "only local paths and s3://"),
    ],
)
def test_an_unusable_input_is_refused(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.zip").write_text("x")
    with pytest.raises(PreflightError, match=message):
        find_shards(path if "://" in path else tmp_path / path)


def test_an_input_without_permission_is_refused(tmp_path: Path) -> None:
    """As another user: the one who runs this may be root, for whom nothing is forbidden."""
    write_shard(tmp_path / "a.tar", [("1.jpg", b"x")])
    tmp_path.chmod(0o700)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setuid(65534)
            find_shards(tmp_path / "a.tar")
            os.write(writer, b"it was read")
        except PreflightError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 1000).decode().startswith(f"--input {tmp_path}/a.tar: ")


def test_globs_and_several_inputs(tmp_path: Path, encoded: EncodeImage) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in ("a.tar", "b.tar"):
            with webdataset.TarWriter(str(tmp_path / folder / name)) as writer:
                writer.write({"__key__": "0", "png": encoded()})
    shards = find_shards(f"{tmp_path}/*/a.tar")
    assert [shard.source for shard in shards] == ["one/a.tar", "two/a.tar"]
    shards = find_shards(tmp_path / "one", tmp_path / "two")
    sources = ["one/a.tar", "one/b.tar", "two/a.tar", "two/b.tar"]
    assert [shard.source for shard in shards] == sources
    with pytest.raises(PreflightError, match=r"would both be one/a\.tar"):
        find_shards(tmp_path / "one", tmp_path / "one" / "a.tar")
    with pytest.raises(PreflightError, match="matches nothing"):
        find_shards(f"{tmp_path}/three/*.tar")


def test_a_mixed_folder_is_refused_with_a_way_out(tmp_path: Path, encoded: EncodeImage) -> None:
    pq.write_table(pa.table({"image": [encoded()]}), tmp_path / "a.parquet")
    with webdataset.TarWriter(str(tmp_path / "b.tar")) as writer:
        writer.write({"__key__": "0", "png": encoded()})
    with pytest.raises(PreflightError, match=r"holds parquet and tar files; name one kind"):
        find_shards(tmp_path)
    assert len(find_shards(f"{tmp_path}/*.parquet")) == 1


def test_img2dataset_tars_are_found_without_the_metadata_beside_them(
    tmp_path: Path, encoded: EncodeImage
) -> None:
    with webdataset.TarWriter(str(tmp_path / "00000.tar")) as writer:
        for i in range(2):
            writer.write(
                {"__key__": f"{i:09d}", "jpg": encoded(), "txt": "a", "json": {"url": "u"}}
            )
    metadata = pa.table(
        {"key": ["000000000", "000000001"], "url": ["u", "u"], "status": ["ok"] * 2}
    )
    pq.write_table(metadata, tmp_path / "00000.parquet")
    (tmp_path / "00000_stats.json").write_text('{"count": 2}')
    assert [row["key"] for row in read_rows(tmp_path)] == ["000000000", "000000001"]


@pytest.mark.parametrize(
    ("key", "secret"),
    [("writeraccess", "wrong"), ("nobody", "x"), ("readeraccess", "readersecret")],
)
def test_s3_without_permission_or_without_shards_is_refused(
    s3: str, monkeypatch: pytest.MonkeyPatch, key: str, secret: str
) -> None:
    import s3fs

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    s3fs.S3FileSystem.clear_instance_cache()
    message = "does not exist" if key == "readeraccess" else "cannot be read: .*(Forbidden|denied)"
    with pytest.raises(PreflightError, match=message):
        find_shards(s3)
