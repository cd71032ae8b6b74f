import os
from pathlib import Path

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.inputs import listing
from c3l_ray.inputs.listing import is_hidden, list_input
from c3l_ray.storage import Location


def list_names(path: Path | str) -> list[str]:
    """The files of an input, relative to its base."""
    listed = list_input(str(path), Location.connect(str(path)))
    return [file.path.removeprefix(listed.base).lstrip("/") for file in listed.files]


def write(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content")


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        ("a.jpg", False),
        ("a/b.c/d.jpg", False),
        ("./a.jpg", False),
        ("../a.jpg", False),
        (".a.jpg", True),
        (".git/a.jpg", True),
        ("a/.ipynb_checkpoints/b/c.jpg", True),
        ("__MACOSX/a.jpg", True),
        ("a/._b.jpg", True),
    ],
)
def test_hidden_is_what_begins_with_a_dot_and_what_macos_adds(path: str, hidden: bool) -> None:
    assert is_hidden(path) == hidden


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "deep" / "a.jpg", tmp_path / "b.jpg")
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "b.jpg").symlink_to("../b.jpg")
    (folder / "gone.jpg").symlink_to("nothing")
    (folder / "itself.jpg").symlink_to("itself.jpg")
    os.mkfifo(folder / "pipe.jpg")
    listing = list_input(str(folder), Location.connect(str(folder)))
    assert [(file.path.removeprefix(f"{folder}/"), file.size) for file in listing.files] == [
        ("b.jpg", 7),
        ("gone.jpg", 0),
        ("itself.jpg", 0),
        ("linked/deep/a.jpg", 7),
    ]
    assert [file.is_dangling for file in listing.files] == [False, True, True, False]


def test_links_that_lead_back_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a" / "1.jpg", tmp_path / "in" / "b" / "2.jpg")
    for name, target in (("a/up", ".."), ("a/b", "../b"), ("b/a", "../a")):
        (tmp_path / "in" / name).symlink_to(target)
    listing = list_input("in", Location.connect(str(tmp_path / "in")))
    names = [file.path.removeprefix(f"{listing.base}/") for file in listing.files]
    assert names == ["a/1.jpg", "a/b/2.jpg", "b/2.jpg", "b/a/1.jpg"]
    assert f"{tmp_path}/in/a/up" in listing.circles


def test_folders_full_of_links_to_each_other_are_walked_once_each(tmp_path: Path) -> None:
    """All paths through twelve of them would be a thousand million."""
    names = [f"{number:02d}" for number in range(12)]
    for name in names:
        write(tmp_path / "in" / name / "1.jpg")
    for name in names:
        for other in set(names) - {name}:
            (tmp_path / "in" / name / f"to-{other}").symlink_to(f"../{other}")
    assert len(list_names(tmp_path / "in")) < 12**3


def test_a_glob_names_files_and_goes_through_links(tmp_path: Path) -> None:
    write(*(tmp_path / name for name in ("in/a1.jpg", "in/a2.jpg", "in/b.jpg", "real/c/d.jpg")))
    (tmp_path / "in" / "linked").symlink_to("../real")
    assert list_names(f"{tmp_path}/in/a*.jpg") == ["a1.jpg", "a2.jpg"]
    assert list_names(f"{tmp_path}/in/*/c/?.jpg") == ["linked/c/d.jpg"]
    assert list_names(f"{tmp_path}/**/*.jpg") == [
        *("in/a1.jpg", "in/a2.jpg", "in/b.jpg", "in/linked/c/d.jpg", "real/c/d.jpg")
    ]
    assert list_names(f"{tmp_path}/*/linked") == ["in/linked/c/d.jpg"]
    with pytest.raises(PreflightError, match=r"--input .*/in/x\*\.jpg: matches nothing"):
        list_names(f"{tmp_path}/in/x*.jpg")


def test_marks_in_the_name_of_what_exists_are_letters(tmp_path: Path) -> None:
    write(*(tmp_path / name for name in ("[2024] photos/a.jpg", "s[0].tar", "s0.tar", "t0.tar")))
    assert list_names(tmp_path / "[2024] photos") == ["a.jpg"]
    assert list_names(tmp_path / "[2024] photos" / "*.jpg") == ["a.jpg"]
    assert list_names(tmp_path / "s[0].tar") == ["s[0].tar"]
    assert list_names(tmp_path / "t[0].tar") == ["t0.tar"]


@pytest.mark.parametrize("max_listed_alone", [listing.MAX_LISTED_ALONE, 0])
def test_s3_is_listed_as_a_local_folder_is(
    max_listed_alone: int, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_LISTED_ALONE", max_listed_alone)
    names = ("[1] a/b.jpg", "[1] a/c/d.jpg", "e.jpg", ".git/f.jpg")
    for name in names:
        write(tmp_path / name)
        Location.connect(f"{s3}/{name}").write(b"content")
    bucket, _, prefix = s3.removeprefix("s3://").partition("/")
    for marker in (f"{prefix}/", f"{prefix}/empty/"):  # as consoles make folders
        Location.connect(s3).fs.call_s3("put_object", Bucket=bucket, Key=marker, Body=b"")
    for pattern in ("", "/[1] a", "/[1] a/*.jpg", "/*.jpg", "/*/*.jpg", "/**/*.jpg", "/e.jpg"):
        assert list_names(f"{s3}{pattern}") == list_names(f"{tmp_path}{pattern}"), pattern
