"""A model on S3 and its copy on this node."""

import tempfile
import threading
from pathlib import Path
from typing import Any

import fsspec
import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.inference.model_check import check_vlm
from c3l_ray.model_files import local
from c3l_ray.scenes import world


@pytest.fixture
def on_s3(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The shipped model on S3, for a node whose temporary files are this test's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fsspec.filesystem("s3").put(f"{world.LLAVA}/", f"{s3}/model/", recursive=True)
    return f"{s3}/model"


def test_its_copy_is_the_same_model(on_s3: str) -> None:
    copy = Path(local(on_s3))
    assert copy.name == "model" and local(f"{on_s3}/") == str(copy)
    here = sorted(path.name for path in world.LLAVA.iterdir())
    assert sorted(path.name for path in copy.iterdir()) == here
    assert check_vlm("--model.name", on_s3) == check_vlm("--model.name", str(world.LLAVA))


def test_workers_that_begin_together_copy_it_once(
    on_s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    fs = fsspec.filesystem("s3")
    get = fs.get

    def counted(source: str, target: str, **options: Any) -> None:
        copied.append(source)
        get(source, target, **options)

    monkeypatch.setattr(fs, "get", counted)
    found: list[str] = []
    together = [threading.Thread(target=lambda: found.append(local(on_s3))) for _ in range(4)]
    for each in together:
        each.start()
    for each in together:
        each.join()
    assert len(found) == 4 and len(set(found)) == 1 and len(copied) == 1


def test_a_copy_that_was_not_finished_is_made_anew(on_s3: str) -> None:
    copy = Path(local(on_s3))
    copy.rename(copy.parent / "copy")
    (copy.parent / "copy" / "config.json").unlink()
    assert (Path(local(on_s3)) / "config.json").is_file()


def test_a_model_that_has_changed_is_copied_again(on_s3: str) -> None:
    before = local(on_s3)
    fsspec.filesystem("s3").pipe_file(f"{on_s3}/config.json", b"{}")
    after = local(on_s3)
    assert after != before and (Path(after) / "config.json").read_bytes() == b"{}"


def test_none_is_there(s3: str) -> None:
    with pytest.raises(PreflightError, match="no such folder"):
        check_vlm("--model.name", f"{s3}/nowhere")


@pytest.mark.parametrize("name", ["owner/name", "/a/b"])
def test_names_and_paths_stay_as_they_are(name: str) -> None:
    assert local(name) == name
