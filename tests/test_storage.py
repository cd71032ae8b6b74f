import pickle
import threading
from pathlib import Path

import pytest

from c3l_ray import storage
from c3l_ray.errors import PreflightError
from c3l_ray.storage import Location


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """A folder that is not there yet: the tests that use it run on both."""
    if request.param == "local":
        return Location.parse(str(tmp_path / "folder"), "--output")
    return Location.parse(f"{request.getfixturevalue('s3')}/folder", "--output")


def list_names(location: Location) -> list[str]:
    return sorted(child.name for child in location.list_children())


def test_a_file_is_written_whole_and_replaced_whole(folder: Location) -> None:
    file = folder / "deep" / "file"
    assert not file.exists() and folder.list_children() == []
    with pytest.raises(FileNotFoundError):
        file.read()
    for content in (b"first", b"the second"):
        file.write(content)
        assert file.read() == content
    assert (file.read(4), file.read(4, 7), file.exists()) == (b"second", b"sec", True)
    with file.open() as opened:
        assert opened.read() == b"the second"
    assert list_names(folder) == ["deep"] and list_names(folder / "deep") == ["file"]


def test_the_first_content_stays_where_there_is_one(folder: Location) -> None:
    file = folder / "file"
    assert file.write_if_absent(b"ours")
    assert file.write_if_absent(b"ours")  # as after a response that was lost
    assert not file.write_if_absent(b"theirs")
    assert file.read() == b"ours" and list_names(folder) == ["file"]


def test_json_is_replaced_whole(folder: Location) -> None:
    file = folder / "run.json"
    assert file.read_json() is None
    for number in range(3):
        file.write_json({"a": 1, "number": number})
    assert file.read_json() == {"a": 1, "number": 2}
    assert list_names(folder) == ["run.json"]


def test_a_file_and_a_folder_can_be_removed(folder: Location) -> None:
    for name in ("a", "b/c", "b/d"):
        (folder / name).write(b"x")
    (folder / "a").remove()
    assert list_names(folder) == ["b"]
    (folder / "b").remove(recursive=True)
    assert (folder / "b").list_children() == []


def test_another_process_reaches_the_same_place(folder: Location) -> None:
    (folder / "file").write(b"x")
    sent = pickle.loads(pickle.dumps(folder))
    assert sent.path == folder.path and (sent / "file").read() == b"x"


@pytest.mark.parametrize(
    ("address", "path", "url"),
    [
        ("s3://bucket/some/run/", "bucket/some/run", "s3://bucket/some/run"),
        ("/some/run/", "/some/run", "file:///some/run"),
        ("file:///some/run", "/some/run", "file:///some/run"),
        ("/a::b/some/run", "/a::b/some/run", "file:///a::b/some/run"),
    ],
)
def test_an_address_is_a_path_on_its_file_system(address: str, path: str, url: str) -> None:
    location = Location.parse(address, "--output")
    assert (location.path, location.url) == (path, url)
    assert location.address == (url if address.startswith("s3") else path)
    assert (location.name, location.parent.name) == ("run", "some")
    assert (location / "a" / "b").path == f"{path}/a/b"


def test_a_relative_path_is_where_the_process_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Location.parse("run", "--output").address == str(tmp_path / "run")


@pytest.mark.parametrize("address", ["ftp://host/x", "http://host/x", "gs://bucket/x"])
def test_other_storage_is_refused_with_its_flag(address: str) -> None:
    with pytest.raises(PreflightError, match=f"--input {address}: only local paths and s3://"):
        Location.parse(address, "--input")


def test_work_at_once_keeps_the_order_and_its_first_fault() -> None:
    at_once = threading.Barrier(4, timeout=20)  # passed by four at a time, or by nobody

    def wait(number: int) -> int:
        at_once.wait()
        return number

    assert storage.map_at_once(wait, range(4)) == [0, 1, 2, 3]
    assert storage.map_at_once(lambda number: number, [7]) == [7]
    with pytest.raises(ZeroDivisionError):
        storage.map_at_once(lambda number: 1 // number, [1, 0, 2])
