"""Whatever the folder or tar: images in = rows out + images refused before the start."""

import fnmatch
import gzip
import io
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.inputs.counted import DrawnInput, check_every_image_is_counted

DRAWS = settings(max_examples=200, deadline=None)
IMAGE_ENDINGS = ("jpg", "JPG", "jpeg", "png", "PNG", "gif", "bmp", "tif", "jfif", "avif", "heic")
STEMS = ("a", "b", "IMG_2023.07.10", "a.b", "x y", "-", "~", "é", "a%20b", "#1", "[c]", "d::e")
FOLDERS = ("", "", "sub", "sub/deep", "dot.ted", "[2] x", ".hidden", "sub/.git", "__MACOSX")


@st.composite
def draw_names(draw: st.DrawFn, folders: tuple[str, ...], endings: tuple[str, ...]) -> str:
    hidden = draw(st.sampled_from(("", "", "", "", ".", "._")))
    name = f"{hidden}{draw(st.sampled_from(STEMS))}"
    ending = draw(st.sampled_from(endings))
    folder = draw(st.sampled_from(folders))
    return f"{folder}/{name}.{ending}".lstrip("/") if ending else f"{folder}/{name}".lstrip("/")


def is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def is_image(name: str) -> bool:
    return name.rpartition(".")[2].lower() in {ending.lower() for ending in IMAGE_ENDINGS}


def find_files(top: Path) -> dict[str, Path]:
    """The files under a folder by their paths in it, links followed: as findutils sees them."""
    found = subprocess.run(
        ["find", "-L", ".", "(", "-type", "f", "-o", "-type", "l", ")", "-print0"],
        cwd=top,
        capture_output=True,  # it tells circles as errors
    )
    names = [os.fsdecode(name)[2:] for name in found.stdout.split(b"\0") if name]
    return {name: top / name for name in names}


FILES = st.dictionaries(
    draw_names(FOLDERS, (*IMAGE_ENDINGS, "txt", "json", "md", "")),
    st.sampled_from(("file", "file", "file", "empty", "link", "dangling")),
    max_size=14,
)
FOLDER_LINKS = st.sets(st.sampled_from(("circle", "outside", "sibling", "itself")), max_size=2)


def write_folder(top: Path, files: dict[str, str], links: set[str]) -> None:
    """Files of these names and kinds under `top`/in, and links to folders."""
    (top / "in").mkdir()
    (top / "elsewhere").mkdir()
    (top / "elsewhere" / "outside.png").write_bytes(b"outside")
    for number, (name, kind) in enumerate(files.items()):
        path = top / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = b"" if kind == "empty" else f"{number} {name}".encode()
        if kind == "link":
            (top / f"target {number}").write_bytes(content)
            path.symlink_to(top / f"target {number}")
        elif kind == "dangling" and not name.endswith((".txt", ".json")):
            path.symlink_to("nothing")
        else:
            path.write_bytes(content)
    targets = {"circle": top / "in", "outside": top / "elsewhere", "itself": Path("itself")}
    if (top / "in" / "sub").is_dir():
        targets["sibling"] = top / "in" / "sub"
    for link in links & targets.keys():
        (top / "in" / link).symlink_to(targets[link])


def describe_folder(paths: list[Path | str], files: dict[str, Path]) -> DrawnInput:
    """What an input of these files holds."""
    drawn = DrawnInput(paths)
    images = [name for name in files if is_image(name) and not is_hidden(name)]
    for name in images:
        if not files[name].exists():
            drawn.unreadable += 1
            continue
        content = files[name].read_bytes()
        drawn.images.append(content)
        side = files[name].with_name(files[name].name.rpartition(".")[0] + ".txt")
        if side.exists() and content:
            drawn.captions[content] = side.read_text()
    if not images:
        drawn.refusal = "holds no .tar, no .parquet and no images"
    return drawn


@DRAWS
@given(files=FILES, links=FOLDER_LINKS)
def test_every_image_of_a_folder_is_a_row(files: dict[str, str], links: set[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        write_folder(top, files, links)
        found = find_files(top / "in")
        check_every_image_is_counted(describe_folder([top / "in"], found))


PATTERNS = ("*", "a*", "*.jpg", "*.*g", "sub/*", "[ab]*", "*/*.png", "**/*.jpg", "**", "[2] x/*")


def is_matched(name: list[str], pattern: list[str]) -> bool:
    """Whether a glob matches a path or a folder on it, both given as their parts."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(is_matched(name[start:], pattern[1:]) for start in range(len(name)))
    if not name:
        return False
    is_same = pattern[0] == name[0] or fnmatch.fnmatchcase(name[0], pattern[0])
    return is_same and is_matched(name[1:], pattern[1:])


@DRAWS
@given(files=FILES, pattern=st.sampled_from(PATTERNS))
def test_every_image_that_a_glob_names_is_a_row(files: dict[str, str], pattern: str) -> None:
    """A folder that a glob names is read whole."""
    files = {name: kind for name, kind in files.items() if not name.endswith("json")}
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        write_folder(top, {"[2] x/z.md": "file", **files}, set())
        found = find_files(top / "in")
        matched = {
            name: path
            for name, path in found.items()
            if is_matched(name.split("/"), pattern.split("/"))
        }
        drawn = describe_folder([f"{top}/in/{pattern}"], matched)
        if drawn.refusal is not None:
            drawn.refusal += "|matches nothing"
        check_every_image_is_counted(drawn)


@DRAWS
@given(files=FILES.filter(len), data=st.data())
def test_an_image_named_by_itself_is_one_row(files: dict[str, str], data: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        write_folder(top, files, set())
        chosen = data.draw(st.sampled_from(sorted(files)))
        path = top / "in" / chosen
        drawn = describe_folder([path], {path.name.lstrip("."): path})
        if not is_image(chosen):
            drawn.refusal = "not a .tar|does not exist|first|no image"
        elif not path.exists():
            drawn.refusal = "does not exist"
        if not chosen.endswith("json"):  # it is read as a list of samples
            check_every_image_is_counted(drawn)


# --- Tars -----------------------------------------------------------------------------------------

MEMBERS = st.lists(
    st.tuples(
        draw_names(
            ("", "", "sub", "./sub", ".git", "__MACOSX"), ("jpg", "png", "JPG", "txt", "gif")
        ),
        st.sampled_from(
            ("file", "file", "file", "empty", "hard", "symbolic", "dangling", "folder")
        ),
    ),
    max_size=14,
)


def write_tar(members: list[tuple[str, str]], first: int) -> tuple[bytes, list[tuple[str, Any]]]:
    """A tar, and its members that are no folders: (name, content; None of a link to nothing)."""
    buffer = io.BytesIO()
    written: list[tuple[str, Any]] = []
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number, (name, kind) in enumerate(members, start=first):
            info = tarfile.TarInfo(name)
            is_text = name.endswith("txt")
            targets = [
                other
                for other in written
                if not is_hidden(other[0].removeprefix("./")) and not (is_text and other[1] is None)
            ]
            content: bytes | None = b"" if kind == "empty" else f"{number} {name}".encode()
            if kind == "folder":
                info.type = tarfile.DIRTYPE
            elif kind == "dangling" and not is_text:
                info.type, info.linkname, content = tarfile.SYMTYPE, "../../etc/passwd", None
            elif kind in ("hard", "symbolic") and targets:
                linkname, content = targets[-1]
                info.type = tarfile.LNKTYPE if kind == "hard" else tarfile.SYMTYPE
                info.linkname = (
                    linkname
                    if kind == "hard"
                    else os.path.relpath(linkname, os.path.dirname(name) or ".")
                )
            else:
                info.size = len(content or b"")
            tar.addfile(info, io.BytesIO(content or b""))
            if kind != "folder":
                written.append((name, content))
    return buffer.getvalue(), written


@DRAWS
@given(
    tars=st.lists(MEMBERS, min_size=1, max_size=3),
    zipped=st.booleans(),
    alone=st.booleans(),
)
def test_every_image_of_a_tar_is_a_row(
    tars: list[list[tuple[str, str]]], zipped: bool, alone: bool
) -> None:
    """Of one tar, of several, and of several that are joined by `cat`."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        contents, archives = [], []
        for number, members in enumerate(tars):
            # A name leads to one content in a tar, so that links do.
            members = list(dict(members).items())
            archive, written = write_tar(members, first=100 * number)
            archives.append(gzip.compress(archive) if zipped else archive)
            contents.append(written)
        if alone:
            for number, archive in enumerate(archives):
                (top / f"{number}.tar").write_bytes(archive)
        else:
            (top / "0.tar").write_bytes(b"".join(archives))
            contents = [[member for members in contents for member in members]]
        check_every_image_is_counted(describe_tars([top], contents))


def describe_tars(paths: list[Path | str], tars: list[list[tuple[str, Any]]]) -> DrawnInput:
    """What tars of these members hold: in a tar an ending begins at the first dot."""
    drawn, is_found = DrawnInput(paths), False
    for tar in tars:
        members = []
        for name, content in tar:
            folder, slash, last = name.rpartition("/")
            stem, _, ending = last.partition(".")
            if is_hidden(name.removeprefix("./")):
                drawn.passed_over += is_image(name)
            else:
                members.append((folder + slash + stem, ending, content))
        with_image = {key for key, ending, _ in members if is_plain_image(ending)}
        is_found = is_found or bool(with_image)
        for _, ending, content in members:
            if is_plain_image(ending) and content is None:
                drawn.unreadable += 1
            elif is_plain_image(ending):
                drawn.images.append(content)
        for key, endings in split_samples(members):
            lost = sum(is_image(f".{ending}") and not is_plain_image(ending) for ending in endings)
            if key in with_image:
                drawn.passed_over += lost
            else:
                drawn.unreadable += lost
                drawn.others += 0 if lost else 1
    if not is_found:
        drawn.refusal = "holds no image"
    return drawn


def is_plain_image(ending: str) -> bool:
    return "." not in ending and is_image(f".{ending}")


def split_samples(members: list[tuple[str, str, Any]]) -> list[tuple[str, list[str]]]:
    """The key and the endings of members that stand together, no ending twice."""
    samples: list[tuple[str, list[str]]] = []
    for key, ending, _ in members:
        if not samples or samples[-1][0] != key or ending.lower() in samples[-1][1]:
            samples.append((key, []))
        samples[-1][1].append(ending.lower())
    return samples
