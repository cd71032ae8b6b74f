"""WebDataset tars: indexed by their headers, read by one range; gzipped ones from the beginning.

A tar whose samples are not ranges of it is read by the places of their files, which the index
notes: where the files of a sample do not stand together, where one is a link or is not to be read,
and where a sample has several images.
"""

import contextlib
import gzip
import io
import itertools
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from c3l_ray.inputs.formats import members
from c3l_ray.inputs.formats.members import Endings
from c3l_ray.inputs.formats.tar_members import Member, TarMembers
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.units import Sample, SampleStart, Shard, ShardEnd, Unit
from c3l_ray.storage import Location

GZIP_MAGIC = b"\x1f\x8b"
MAX_LINKS = 40  # that lead from one to the next, as in Linux
NEAR_BYTES = 64 * 2**10  # places this near to each other are read as one
UNUSED_BYTES = 16 * 2**20  # a larger member that is not used is passed over, not read

# What is noted of a sample that is read by places; a place is "first byte-byte after the last".
KEY, IMAGE, CAPTION, META, ERROR = "key", "image", "caption", "meta", "error"
Place = tuple[int, int]


@dataclass(slots=True)
class _Group:
    """Members that stand together and share a key, by their endings."""

    key: str
    start: int
    files: dict[str, Member] = field(default_factory=dict)

    def images(self, endings: Endings) -> list[str]:
        return [ending for ending in self.files if ending in endings.images]

    def other_images(self, endings: Endings) -> list[str]:
        """Endings that are an image's from the last dot on, as in `1.input.jpg`, but not chosen."""
        return [
            ending
            for ending in self.files
            if ending not in endings.images and ending.rpartition(".")[2] in members.IMAGE_ENDINGS
        ]


def find_samples(
    location: Location, shard: Shard, layout: Layout
) -> Iterator[SampleStart | ShardEnd]:
    """The samples of a tar in order, then its end."""
    endings = members.choose_endings(layout)
    with _open_members(location, shard.size) as tar:
        groups = list(_group_members(tar, endings))
    with_image = {group.key for group in groups if group.images(endings)}
    passed_over = tar.num_hidden + sum(
        len(group.other_images(endings)) for group in groups if group.key in with_image
    )
    if _are_ranges(groups, with_image, endings):
        for group in groups:
            yield SampleStart(key=group.key, start=group.start, position=group.start)
        yield ShardEnd(end=tar.end, position=tar.end, damage=tar.damage, passed_over=passed_over)
        return
    number = position = 0
    for noted, size in _join_groups(groups, endings):
        yield SampleStart(key=noted[KEY], start=number, position=position, files=noted)
        number += 1
        position += size
    yield ShardEnd(end=number, position=position, damage=tar.damage, passed_over=passed_over)


def read_samples(location: Location, unit: Unit, layout: Layout) -> Iterator[Sample]:
    """The samples of a unit: of its range, or of the places that are noted."""
    if unit.end == unit.start:
        return
    if unit.files:
        yield from _read_by_places(location, unit)
        return
    endings = members.choose_endings(layout)
    (data,) = _read_places(location, {(unit.start, unit.end)}).values()
    for group in _group_members(TarMembers(io.BytesIO(data), len(data)), endings):
        content = {
            ending: data[member.start : member.start + member.size]
            for ending, member in group.files.items()
        }
        yield members.make_sample(group.key, content, endings)


def explain_no_images(shards: list[Shard], layout: Layout) -> str | None:
    """Why none of these tars has an image; None where one has, and no tar after it is looked at.

    Raises:
        OSError: the storage failed.
    """
    endings = members.choose_endings(layout)
    others: set[str] = set()
    damages = []
    for shard in shards:
        with _open_members(Location.connect(shard.path), shard.size) as tar:
            for member in tar:
                ending = members.split_member_name(member.name)[1]
                if ending in endings.images:
                    return None
                others.add(ending or "nothing")
        if tar.damage:
            damages.append(f"{shard.source} is damaged at {tar.damage}")
    reasons = damages[:1]
    if others:
        some = ", ".join(sorted(others)[:20])
        reasons.append(f"names end in {some}; --layout.image names the ending of images in a tar")
    return "; ".join(reasons) or "nothing is in it"


@contextlib.contextmanager
def _open_members(location: Location, size: int) -> Iterator[TarMembers]:
    with location.open() as raw:
        is_zipped = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        yield TarMembers(gzip.GzipFile(fileobj=raw), None) if is_zipped else TarMembers(raw, size)


def _group_members(tar: Iterable[Member], endings: Endings) -> Iterator[_Group]:
    group = None
    for member in tar:
        key, ending = members.split_member_name(member.name)
        if not ending and (member.link is not None or member.problem is not None):
            continue  # such as a link to a folder
        if group is None or key != group.key or ending in group.files:
            if group is not None:
                yield group
            group = _Group(key, member.header)
        group.files[ending] = member
    if group is not None:
        yield group


def _are_ranges(groups: list[_Group], with_image: set[str], endings: Endings) -> bool:
    """Whether each group is one sample, as reading its range alone would find it.

    Args:
        groups: of the tar.
        with_image: keys of those that have an image.
        endings: of what is read.
    """
    for group in groups:
        num_images = len(group.images(endings))
        is_scattered = not num_images and group.key in with_image
        num_lost = 0 if num_images else len(group.other_images(endings))
        if num_images > 1 or num_lost > 1 or is_scattered:
            return False
        for ending, member in group.files.items():
            is_unused = not endings.are_read(ending) and member.size > UNUSED_BYTES
            if member.link is not None or member.problem is not None or is_unused:
                return False
    return True


def _join_groups(groups: list[_Group], endings: Endings) -> Iterator[tuple[dict[str, str], int]]:
    """(what is noted of it, bytes) of each sample: groups of one key are joined.

    An image without a caption takes the first one of its key that stands by no other image. What no
    image takes is passed over.
    """
    targets = _follow_links([member for group in groups for member in group.files.values()])
    owners: dict[str, list[_Group]] = {}
    for group in groups:
        if group.images(endings):
            owners.setdefault(group.key, []).append(group)
    for group in groups:
        if not group.images(endings):
            for ending, member in group.files.items():
                takers = (owner for owner in owners.get(group.key, []) if ending not in owner.files)
                for taker in itertools.islice(takers, 1):
                    taker.files[ending] = member
    for group in groups:
        images = group.images(endings)
        for ending in images:
            yield _note_sample(group, endings, ending)
        # What links lead to lies under names without endings in the hub's cache.
        is_target = all(
            member.header in targets and not ending for ending, member in group.files.items()
        )
        if images or is_target or group.key in owners:
            continue
        for lost in [[ending] for ending in group.other_images(endings)] or [list(group.files)]:
            yield {KEY: group.key, ERROR: members.explain_no_image(lost)}, 0


def _note_sample(group: _Group, endings: Endings, image: str) -> tuple[dict[str, str], int]:
    files = {IMAGE: group.files[image]}
    for label, ending in ((CAPTION, endings.caption), (META, endings.meta)):
        if ending in group.files:
            files[label] = group.files[ending]
    problem = next((member.problem for member in files.values() if member.problem), None)
    if problem is not None:
        return {KEY: group.key, ERROR: problem}, 0
    places = {
        label: f"{member.start}-{member.start + member.size}" for label, member in files.items()
    }
    return {KEY: group.key, **places}, sum(member.size for member in files.values())


def _follow_links(files: list[Member]) -> set[int]:
    """Gives links the content of what they lead to; the headers of that are returned."""
    by_name: dict[str, list[Member]] = {}
    for member in files:
        by_name.setdefault(posixpath.normpath(member.name), []).append(member)

    def find_target(link: Member) -> Member | None:
        """The last member of the name before the link, as in tars that were joined; or after it."""
        candidates = by_name.get(posixpath.normpath(link.link or ""), [])
        before = [member for member in candidates if member.header < link.header]
        return next(iter([*reversed(before), *candidates]), None)

    targets = set()
    for member in files:
        target: Member | None = member
        for _ in range(MAX_LINKS):
            if target is None or target.link is None:
                break
            target = find_target(target)
        if target is None or target.link is not None:
            member.problem = (
                f"unreadable: {member.name} is a link to {member.link}, which is not in the tar"
            )
        elif target is not member:
            member.start, member.size, member.problem = target.start, target.size, target.problem
            targets.add(target.header)
    return targets


def _read_by_places(location: Location, unit: Unit) -> Iterator[Sample]:
    def place_of(text: str) -> Place:
        start, _, end = text.partition("-")
        return int(start), int(end)

    labels = (IMAGE, CAPTION, META)
    noted_places = [
        {label: place_of(noted[label]) for label in labels if label in noted}
        for noted in unit.files
    ]
    content = _read_places(
        location, {place for places in noted_places for place in places.values()}
    )
    for noted, places in zip(unit.files, noted_places, strict=True):
        image, caption, meta = (
            content[places[label]] if label in places else None for label in labels
        )
        yield Sample(
            key=noted[KEY],
            image=image,
            caption=members.decode_text(caption),
            meta=members.decode_text(meta),
            error=noted.get(ERROR),
        )


def _read_places(location: Location, places: set[Place]) -> dict[Place, bytes]:
    """The bytes at each place; places that are near to each other are read as one."""
    spans: list[tuple[Place, list[Place]]] = []
    for start, end in sorted(places):
        if spans and start - spans[-1][0][1] <= NEAR_BYTES:
            (first, last), inner = spans[-1]
            spans[-1] = (first, max(last, end)), [*inner, (start, end)]
        else:
            spans.append(((start, end), [(start, end)]))
    content = {}
    with contextlib.ExitStack() as opened:
        unzipped = None
        if location.read(0, 2) == GZIP_MAGIC:
            raw = opened.enter_context(location.open())
            unzipped = opened.enter_context(gzip.GzipFile(fileobj=raw))
        for (first, last), inner in spans:
            if unzipped is None:
                data = location.read(first, last)
            else:
                unzipped.seek(first)
                data = unzipped.read(last - first)
            for start, end in inner:
                content[start, end] = data[start - first : end - first]
    return content
