"""A model on S3 and its copy on this node."""

import tempfile
import threading
from pathlib import Path
from typing import Any

import fsspec
import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.inference.model_check import check_model
from c3l_ray.model_files import resolve_model
from c3l_ray.scenes import world
from c3l_ray.storage import Location


@pytest.fixture
def on_s3(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The shipped model on S3, for a node whose temporary files are this test's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fsspec.filesystem("s3").put(f"{world.LLAVA}/", f"{s3}/model/", recursive=True)
    return f"{s3}/model"


def test_the_copy_is_the_same_model(on_s3: str) -> None:
    copy = Path(resolve_model(on_s3))
    assert copy.name == "model" and resolve_model(f"{on_s3}/") == str(copy)
    shipped_names = sorted(path.name for path in world.LLAVA.iterdir())
    assert sorted(path.name for path in copy.iterdir()) == shipped_names
    assert check_model("--model.name", on_s3) == check_model("--model.name", str(world.LLAVA))


def test_workers_that_start_together_copy_it_once(
    on_s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied_sources: list[str] = []
    fs = Location.connect(on_s3).fs
    get = fs.get

    def get_and_record(source: str, target: str, **options: Any) -> None:
        copied_sources.append(source)
        get(source, target, **options)

    monkeypatch.setattr(fs, "get", get_and_record)
    folders: list[str] = []
    workers = [
        threading.Thread(target=lambda: folders.append(resolve_model(on_s3))) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(folders) == 4 and len(set(folders)) == 1 and len(copied_sources) == 1


def test_an_unfinished_copy_is_made_anew(on_s3: str) -> None:
    copy = Path(resolve_model(on_s3))
    copy.rename(copy.parent / "copy")
    (copy.parent / "copy" / "config.json").unlink()
    assert (Path(resolve_model(on_s3)) / "config.json").is_file()


def test_a_model_that_has_changed_is_copied_again(on_s3: str) -> None:
    before = resolve_model(on_s3)
    fsspec.filesystem("s3").pipe_file(f"{on_s3}/config.json", b"{}")
    after = resolve_model(on_s3)
    assert after != before and (Path(after) / "config.json").read_bytes() == b"{}"


def test_an_absent_folder_is_refused(s3: str) -> None:
    with pytest.raises(PreflightError, match="no such folder"):
        check_model("--model.name", f"{s3}/nowhere")


@pytest.mark.parametrize("name", ["owner/name", "/a/b"])
def test_hub_names_and_local_paths_stay_as_they_are(name: str) -> None:
    assert resolve_model(name) == name
