"""Images by the names that samples give them, inside the images' folder and nowhere else."""

from pathlib import Path
from typing import Any

import fsspec
import pytest

from c3l_ray.inputs.formats import image_files
from c3l_ray.inputs.formats.image_files import ImageSizes, image_names, locate_image
from c3l_ray.storage import Location

PART = {"type": "text", "text": "Q"}
NAMED: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "image": ({"image": "a.jpg"}, ["a.jpg"]),
    "images": ({"images": ["a.jpg", "b.jpg"]}, ["a.jpg", "b.jpg"]),
    "image_path": ({"image_path": "a.jpg"}, ["a.jpg"]),
    "datasets": ({"images": [{"bytes": None, "path": "a.jpg"}]}, ["a.jpg"]),
    "a part": (
        {"messages": [{"role": "user", "content": [{"type": "image", "image": "a.jpg"}, PART]}]},
        ["a.jpg"],
    ),
    "a part with an address": (
        {"messages": [{"content": [{"type": "image_url", "image_url": {"url": "a.jpg"}}, PART]}]},
        ["a.jpg"],
    ),
    "a part that marks the place": (
        {"images": ["a.jpg"], "messages": [{"content": [{"type": "image"}, PART]}]},
        ["a.jpg"],
    ),
    "Qwen-VL's tag": (
        {"conversations": [{"from": "user", "value": "Picture 1: <img>a b.jpg</img>\nQ"}]},
        ["a b.jpg"],
    ),
    "a tag in a query": ({"query": "<img>a.jpg</img>Q", "response": "A"}, ["a.jpg"]),
    "none": ({"conversations": [{"from": "human", "value": "Q"}], "image": None}, []),
    "parts that are no parts": ({"messages": ["x", {"content": [1, {"type": "image"}]}]}, []),
}


@pytest.mark.parametrize("case", NAMED)
def test_images_are_named_in_many_ways(case: str) -> None:
    sample, names = NAMED[case]
    assert image_names(sample) == names


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.jpg", "a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("x/../y/a.jpg", "y/a.jpg"),
        ("ROOT/x/a.jpg", "x/a.jpg"),
        ("ROOT/../ROOTNAME/a.jpg", "a.jpg"),
        ("file://ROOT/a.jpg", "a.jpg"),
        ("a:b.jpg", "a:b.jpg"),
        ("../a.jpg", None),
        ("x/../../a.jpg", None),
        ("ROOT/../a.jpg", None),
        ("ROOT-other/a.jpg", None),
        ("ROOT", None),
        ("/etc/passwd", None),
        ("file:///etc/passwd", None),
        ("https://host.invalid/a.jpg", None),
        ("s3://bucket/a.jpg", None),
        ("", None),
        ("a\0.jpg", None),
        (3, None),
    ],
)
def test_a_name_leads_into_the_folder_or_nowhere(
    name: Any, path: str | None, tmp_path: Path
) -> None:
    if isinstance(name, str):
        name = name.replace("ROOTNAME", tmp_path.name).replace("ROOT", str(tmp_path))
    file, error = locate_image(Location.connect(str(tmp_path)), [name])
    assert (file and file.path) == (path and f"{tmp_path}/{path}")
    assert (error is None) == (path is not None)
    assert error is None or error.startswith("no_image: ")


def test_the_root_of_all_files_is_a_folder_like_any_other(tmp_path: Path) -> None:
    file, _ = locate_image(Location.connect("/"), [f"{tmp_path}/a.jpg"])
    assert file is not None and file.path == f"{tmp_path}/a.jpg"


def test_an_object_store_lists_a_folder_of_many_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "NUM_SINGLE_LOOKS", 3)
    fs = fsspec.filesystem("memory")
    for number in range(5):
        fs.pipe_file(f"/sizes/many/{number}.jpg", bytes(number))
    fs.pipe_file("/sizes/few/1.jpg", bytes(9))
    calls: list[str] = []
    for name in ("info", "ls"):
        original = getattr(fs, name)

        def count(path: str, *args: Any, _name: str = name, _of: Any = original, **kw: Any) -> Any:
            calls.append(_name)
            return _of(path, *args, **kw)

        monkeypatch.setattr(fs, name, count)
    folder = Location(fs, "/sizes")
    names = [*(f"many/{number}.jpg" for number in range(5)), "few/1.jpg", "many/gone.jpg"]
    sizes = ImageSizes(folder).measure([None, *(folder / name for name in names)])
    assert sizes == [0, 0, 1, 2, 3, 4, 9, 0]
    assert sorted(calls) == ["info", "ls"]
