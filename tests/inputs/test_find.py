import logging
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from c3l_ray.errors import PreflightError
from c3l_ray.scenes.world import write_shard
from tests.examples import EncodeImage
from tests.inputs.counted import read_all_rows
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
        ("file.zip", "not a .tar, .parquet or LLaVA .json, nor an image or a folder of them"),
        ("other", r"no images; it holds 2 \.zip, 1 \.md, 1 hidden, 1 without an ending"),
        ("dangling", r"dangling/a\.tar is a link to nothing"),
        ("ftp://somewhere/x", "only local paths and s3://"),
    ],
)
def test_an_unusable_input_is_refused(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.zip").write_text("x")
    for folder in ("other", "dangling"):
        (tmp_path / folder).mkdir()
    for name in ("a.zip", "b.ZIP", "c.md", "d", ".e.jpg"):
        (tmp_path / "other" / name).write_text("x")
    (tmp_path / "dangling" / "a.tar").symlink_to("nothing")
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
    message = "does not exist" if key == "readeraccess" else "refuses it to these credentials"
    with pytest.raises(PreflightError, match=message):
        find_shards(s3)


def write_parquet(path: Path, columns: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


@pytest.mark.parametrize(
    "image",
    [
        pa.array([b"x"] * 3),
        pa.array([{"bytes": b"x", "path": ""}] * 3),
        pa.array([b"x"] * 3, pa.large_binary()),
        pa.array([[{"bytes": b"x"}]] * 3),
        pa.array([b"x"] * 3, pa.binary_view()),
    ],
)
def test_a_parquet_file_of_images_is_data_whatever_its_name(tmp_path: Path, image: Any) -> None:
    write_parquet(tmp_path / "a" / "train.parquet", {"pixels": image})
    write_parquet(tmp_path / "a" / "train" / "more.parquet", {"image": [b"x"] * 3})
    write_parquet(tmp_path / "a" / "other.parquet", {"image": [b"x"]})
    (tmp_path / "a" / "other").mkdir()
    (tmp_path / "a" / "other" / "README.md").write_text("about other.parquet")
    sources = [shard.source for shard in find_shards(tmp_path / "a")]
    assert sources == ["other.parquet", "train.parquet", "train/more.parquet"]


def test_a_parquet_file_beside_a_tar_of_its_name_is_not_passed_over_if_it_has_images(
    tmp_path: Path,
) -> None:
    write_shard(tmp_path / "0.tar", [("1.jpg", b"x")])
    write_parquet(tmp_path / "0.parquet", {"key": ["1"], "sha256": ["ab"]})
    assert [shard.source for shard in find_shards(tmp_path)] == ["0.tar"]
    write_parquet(tmp_path / "0.parquet", {"image": [b"x"]})
    with pytest.raises(PreflightError, match=rf"'{tmp_path}/\*\*/\*\.tar'"):
        find_shards(tmp_path)


def test_images_beside_other_data_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "0.parquet", {"image": [b"x"]})
    (tmp_path / "logo.png").write_bytes(b"x")
    with pytest.raises(PreflightError, match="holds image and parquet files; name one kind"):
        find_shards(tmp_path)
    assert len(find_shards(f"{tmp_path}/**/*.parquet")) == 1


def test_a_glob_of_images_reads_these_and_what_lies_beside(tmp_path: Path) -> None:
    for name in ("a1.jpg", "a2.jpg", "b1.jpg", "b2.jpg"):
        (tmp_path / name).write_bytes(name.encode())
        (tmp_path / name).with_suffix(".txt").write_text(f"text of {name}")
        (tmp_path / name).with_suffix(".json").write_text("{}")
    whole = {row["key"]: row for row in read_rows(tmp_path)}
    for pattern in ("a*.jpg", "a*"):
        rows = read_rows(f"{tmp_path}/{pattern}")
        assert [(row["key"], row["caption"]) for row in rows] == [
            ("a1", "text of a1.jpg"),
            ("a2", "text of a2.jpg"),
        ]
        # The same images have the same ids.
        assert {row["image_id"] for row in rows} == {whole[key]["image_id"] for key in ("a1", "a2")}
    assert [row["key"] for row in read_rows(tmp_path / "b1.jpg")] == ["b1"]


def test_images_named_one_by_one_are_read_as_the_shell_writes_them(tmp_path: Path) -> None:
    for name in ("a1.jpg", "a2.jpg", "b1.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    rows = read_all_rows([tmp_path / "a2.jpg", tmp_path / "a1.jpg"])
    assert [row["key"] for row in rows] == ["a1", "a2"]
    with pytest.raises(PreflightError, match="give their common folder instead"):
        find_shards(tmp_path / "a1.jpg", tmp_path / "a1.jpg")
    with pytest.raises(PreflightError, match="give their common folder instead"):
        find_shards(tmp_path / "a1.jpg", tmp_path)


def test_lists_and_images_of_one_glob_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "a.json").write_text("{}")
    assert len(read_rows(f"{tmp_path}/*")) == 1
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(PreflightError, match=r"holds image and LLaVA \.json files; name one kind$"):
        find_shards(f"{tmp_path}/*")


def test_what_is_passed_over_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = (
        "a.jpg",
        "b.md",
        "c.md",
        "d.json",
        ".git/e.jpg",
        "__MACOSX/._a.jpg",
        "a.txt",
        "x/f.jpg",
    )
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "x" / "back").symlink_to(tmp_path)
    with caplog.at_level(logging.INFO, "c3l_ray"):
        assert [shard.source for shard in find_shards(tmp_path)] == ["", "x"]
    passed_over, circles = caplog.messages
    expected = f"--input {tmp_path}: files passed over: 2 .md, 2 hidden, 1 .json"
    assert passed_over == expected
    assert circles == (
        f"--input {tmp_path}: linked folders that lead back are not followed: {tmp_path}/x/back"
    )


def test_refusals_name_paths_as_a_user_does(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a" / "0.parquet", {"text": ["no image"]})
    for name in "bcd":
        (tmp_path / name).mkdir()
    write_shard(tmp_path / "b" / "0.tar", [("1.npy", b"x")])
    (tmp_path / "c" / "0.json").write_text('[{"image": "gone.jpg"}]')
    write_shard(tmp_path / "d" / "0.tar", [("1.jpg", b"x")])
    inputs: list[list[Path]] = [
        *([tmp_path / "a"], [tmp_path / "b"], [tmp_path / "c" / "0.json"]),
        [tmp_path / "d", tmp_path / "d" / "0.tar"],
    ]
    for paths in inputs:
        with pytest.raises(PreflightError) as raised:
            find_shards(*paths)
        assert str(tmp_path) in str(raised.value) and "file:" not in str(raised.value)


def test_endings_in_capitals_are_endings(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write_shard(tmp_path / "a" / "0.TAR", [("1.JPG", b"x")])
    assert len(read_rows(tmp_path / "a")) == 1
    write_parquet(tmp_path / "b" / "0.PARQUET", {"image": [b"x"]})
    assert len(read_rows(tmp_path / "b")) == 1
