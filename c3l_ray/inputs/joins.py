"""Small Parquet files and folders joined into units, lest many of them become many small commits.

Which ones are joined is written down once, exclusively, in `joins/`: every run over the same
output joins them alike, also after files were added or while another run's last writers still live.
Two units that overlap would otherwise both be committed.
"""

from c3l_ray.inputs.index import read_joins, write_joins
from c3l_ray.inputs.units import Unit, digest_text
from c3l_ray.runs.folder import RunFolder

SMALL_ROWS = 64
JOINED_ROWS = 256
JOINED_BYTES = 64 * 2**20


def join_small_units(units: list[Unit], folder: RunFolder) -> list[Unit]:
    """The units, those of small files and folders replaced by what they are joined into."""
    small = {unit.name: unit for unit in units if _is_small(unit)}
    while True:
        noted = read_joins(folder)
        grouped = {name for groups in noted for group in groups for name in group}
        new_groups = _group([unit for name, unit in small.items() if name not in grouped])
        if not new_groups:
            break
        # By us, or by another run that was first: then read its groups.
        write_joins(folder, len(noted), new_groups)
    result = [unit for unit in units if unit.name not in small]
    for group in (group for groups in noted for group in groups):
        members = [small[name] for name in group if name in small]
        if members:
            result.append(_join(f"{digest_text(' '.join(group))}-joined", members))
    return result


def _is_small(unit: Unit) -> bool:
    return unit.format in ("parquet", "folder") and 0 < unit.rows < SMALL_ROWS


def _group(units: list[Unit]) -> list[list[str]]:
    """Neighbours, as many as fit into a unit's bounds."""
    groups: list[list[str]] = []
    rows = size = 0
    for unit in units:
        if not groups or rows + unit.rows > JOINED_ROWS or size + unit.size > JOINED_BYTES:
            groups.append([])
            rows = size = 0
        groups[-1].append(unit.name)
        rows += unit.rows
        size += unit.size
    return groups


def _join(name: str, members: list[Unit]) -> Unit:
    return Unit(
        name=name,
        format="joined",
        path=members[0].path,
        source=members[0].source,
        start=0,
        end=0,
        rows=sum(member.rows for member in members),
        size=sum(member.size for member in members),
        members=members,
    )
