"""The input as units: an Arrow block each, of at most 256 images or about 64 MB, not decoded.

A shard is indexed once, and every unit's place in it is noted: reading a unit then is one ranged
read, and a rerun reads nothing of the units that are done.
"""

import posixpath
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from c3l_ray.config import Layout
from c3l_ray.data import storage
from c3l_ray.data.commit import Output
from c3l_ray.data.formats import folders, llava, members, parquet, tars
from c3l_ray.data.units import End, Place, Sample, Shard, Unit, digest, readable
from c3l_ray.errors import Refused
from c3l_ray.schema import FLOW, conform, filled

UNIT_ROWS = 256
UNIT_BYTES = 64 * 2**20
FORMATS = {"tar": tars, "parquet": parquet, "folder": folders, "llava": llava}
ENDINGS = {".tar": "tar", ".tar.gz": "tar", ".tgz": "tar", ".parquet": "parquet"}


def find_shards(inputs: tuple[str, ...], layout: Layout) -> list[Shard]:
    """The shards of an input, in the order of their names.

    Args:
        inputs: files, folders and globs. With several, a shard's source begins with the last name
            of the input that it was found in.
        layout: where an image is found in Parquet and JSON files.

    Raises:
        Refused: an input does not exist, is not readable, holds nothing to read or several kinds of
            it, or two hold shards of one name.
    """
    found: dict[str, Shard] = {}
    for each in inputs:
        for shard in _shards_of(each, within=len(inputs) > 1):
            if shard.source in found:
                raise Refused(
                    f"--input {each}: {shard.path} and {found[shard.source].path} would both be "
                    f"{shard.source}; give their common folder instead"
                )
            found[shard.source] = shard
    first = {shard.format: shard for shard in reversed(found.values())}
    for shard in first.values():
        _check(shard, layout)
    return [found[source] for source in sorted(found)]


def _shards_of(path: str, *, within: bool) -> list[Shard]:
    fs, root = storage.connect("--input", path)
    is_glob = any(mark in root for mark in "*?[")
    try:
        if is_glob:
            matches = {match: fs.info(match) for match in fs.glob(root)}
            fixed = root[: min(root.find(mark) for mark in "*?[" if mark in root)]
            base = fixed.rpartition("/")[0]
            if not matches:
                raise Refused(f"--input {path}: matches nothing")
        elif not fs.exists(root):
            raise Refused(f"--input {path}: does not exist")
        elif fs.isfile(root):
            matches, base = {root: fs.info(root)}, root.rpartition("/")[0]
        elif fs.isdir(f"{root}/manifests"):  # an earlier run: its manifests say what counts
            named = {f"{root}/{manifest.file}" for manifest in Output(path, "--input").manifests()}
            there = fs.find(f"{root}/records", detail=True)
            matches, base = {name: info for name, info in there.items() if name in named}, root
            if not matches:
                raise Refused(f"--input {path}: a run without records")
        else:
            matches, base = {}, root
        files = {name: info for name, info in matches.items() if info["type"] == "file"}
        samples = [name for name in files if name.endswith(llava.ENDINGS)]
        strange = [name for name in files if _format(name) is None and name not in samples]
        if strange and not is_glob:
            raise Refused(
                f"--input {path}: not a .tar, .parquet or LLaVA .json, nor a folder of images"
            )
        for folder in [n for n, i in matches.items() if i["type"] == "directory"] or (
            [] if files else [root]
        ):
            files |= fs.find(folder, detail=True)
    except storage.ERRORS as error:
        raise Refused(f"--input {path}: cannot be read: {error}") from error
    prefix = f"{posixpath.basename(base)}/" if within else ""

    def shard(format_: str, name: str, size: int, etag: str | None) -> Shard:
        source = prefix + readable(name.removeprefix(base).lstrip("/"))
        return Shard(
            format=format_, path=fs.unstrip_protocol(name), source=source, size=size, etag=etag
        )

    shards = [
        shard(format_, name, info["size"], info.get("ETag"))
        for name, info in files.items()
        if (format_ := _format(name)) is not None and not _describes_others(name, files)
    ]
    if not shards and samples:
        shards = [
            shard("llava", name, files[name]["size"], files[name].get("ETag")) for name in samples
        ]
    if not shards:
        sizes: Counter[str] = Counter()
        for name, info in files.items():
            if members.split(name)[1] in folders.KEPT:
                sizes[name.rpartition("/")[0]] += info["size"]
        with_images = {
            name.rpartition("/")[0]
            for name in files
            if members.split(name)[1] in members.IMAGE_EXTENSIONS
        }
        shards = [shard("folder", folder, sizes[folder], None) for folder in sorted(with_images)]
    if not shards:
        raise Refused(f"--input {path}: holds no .tar, no .parquet and no images")
    kinds = sorted({each.format for each in shards})
    if len(kinds) > 1:
        raise Refused(
            f"--input {path}: holds {' and '.join(kinds)} files; name one kind, such as "
            f"'{path}/*.tar'"
        )
    return shards


def _format(name: str) -> str | None:
    return next((kind for ending, kind in ENDINGS.items() if name.endswith(ending)), None)


def _describes_others(name: str, files: dict[str, Any]) -> bool:
    """Whether a Parquet file is what img2dataset writes beside a tar or folder of the same name."""
    stem, dot, _ = name.rpartition(".parquet")
    if not dot:
        return False
    return f"{stem}.tar" in files or any(other.startswith(f"{stem}/") for other in files)


def _check(shard: Shard, layout: Layout) -> None:
    """Refuses a first file that lacks what the layout names; later ones become failed rows."""
    fs, path = storage.connect("--input", shard.path)
    try:
        if shard.format == "llava":
            llava.check(fs, path, layout)
        elif shard.format == "parquet":
            with fs.open(path, "rb") as file:
                parquet.choose(pq.read_schema(file), layout)
    except parquet.Unfit as error:
        raise Refused(f"--input {shard.path}: {error}") from error
    except pa.ArrowException:
        return  # a damaged file is a failed row, wherever it stands
    except storage.ERRORS as error:
        raise Refused(f"--input {shard.path}: cannot be read: {error}") from error


def index(shard: Shard, layout: Layout) -> list[Unit]:
    """The units of a shard; a damage ends the last one.

    A shard without samples has one unit without rows.

    Raises:
        OSError: the storage failed.
    """
    fs, path = storage.connect("--input", shard.path)
    units: list[Unit] = []
    seen: Counter[str] = Counter()
    pending: list[Place] = []
    repeats: dict[str, int] = {}

    def cut(end: int, position: int, damage: str | None = None) -> None:
        nonlocal repeats
        units.append(
            Unit(
                name=f"{shard.name}-{len(units):05d}",
                format=shard.format,
                path=shard.path,
                source=shard.source,
                start=pending[0].start if pending else end,
                end=end,
                rows=len(pending) + (damage is not None),
                size=position - pending[0].position if pending else 0,
                repeats=repeats,
                files=[place.files for place in pending if place.files is not None],
                damage=damage,
            )
        )
        pending.clear()
        repeats = {}

    for place in FORMATS[shard.format].walk(fs, path, shard, layout):
        if isinstance(place, End):
            if pending or place.damage or not units:
                cut(place.end, place.position, place.damage)
            break
        full = len(pending) == UNIT_ROWS
        if pending and (full or place.position - pending[0].position >= UNIT_BYTES):
            cut(place.start, place.position)
        if seen[place.key]:
            repeats[str(len(pending))] = seen[place.key]
        seen[place.key] += 1
        pending.append(place)
    return units


def read(unit: Unit, layout: Layout) -> pa.Table:
    """The images of a unit, in the shard's order, as one table of the schema FLOW.

    Raises:
        OSError: the storage failed.
    """
    if unit.parts:
        table = pa.concat_tables([read(part, layout) for part in unit.parts])
        return filled(table, unit=[unit.name] * unit.rows, unit_rows=[unit.rows] * unit.rows)
    fs, path = storage.connect("--input", unit.path)
    samples = list(FORMATS[unit.format].read(fs, path, unit, layout))
    if unit.damage is not None:
        error = f"damaged_shard: {unit.source} at {unit.damage}"
        samples.append(Sample(key=f"damage at {unit.damage}", error=error))
    columns = {
        name: [getattr(sample, name) for sample in samples]
        for name in ("key", "image", "caption", "meta", "error", "turns")
    }
    return conform(
        {
            "image_id": [image_id(unit, row, sample) for row, sample in enumerate(samples)],
            **columns,
            "source": [sample.source or unit.source for sample in samples],
            "unit": [unit.name] * len(samples),
            "unit_rows": [unit.rows] * len(samples),
        },
        FLOW,
    )


def image_id(unit: Unit, row: int, sample: Sample) -> str:
    """The id of the image in a row of a unit: the same wherever the data lies."""
    repeat = unit.repeats.get(str(row), 0)
    return sample.image_id or digest(f"{unit.source}\n{sample.key}\n{repeat}")
