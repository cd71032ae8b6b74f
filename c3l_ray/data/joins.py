"""Small Parquet files joined into one unit, so that many of them do not become many small commits.

Which files are joined is written down once, exclusively, in `joins/`: every run over the same
output joins them alike, also after files were added or while another run's last writers still live.
Two units that overlap would otherwise both be committed.
"""

from c3l_ray.data.commit import Output
from c3l_ray.data.units import Unit, digest

SMALL_ROWS = 64
JOINED_ROWS = 256
JOINED_BYTES = 64 * 2**20


def join(units: list[Unit], output: Output) -> list[Unit]:
    """The units, those of small Parquet files replaced by what they are joined into."""
    small = {unit.name: unit for unit in units if _is_small(unit)}
    while True:
        noted = output.joins()
        taken = {name for groups in noted for group in groups for name in group}
        fresh = _groups([unit for name, unit in small.items() if name not in taken])
        if not fresh:
            break
        output.note_joins(len(noted), fresh)  # by us, or by another that was first: read it again
    joined = [unit for unit in units if unit.name not in small]
    for group in (group for groups in noted for group in groups):
        parts = [small[name] for name in group if name in small]
        if parts:
            joined.append(_joined(f"{digest(' '.join(group))}-joined", parts))
    return joined


def _is_small(unit: Unit) -> bool:
    return unit.format == "parquet" and 0 < unit.rows < SMALL_ROWS


def _groups(units: list[Unit]) -> list[list[str]]:
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


def _joined(name: str, parts: list[Unit]) -> Unit:
    return Unit(
        name=name,
        format="joined",
        path=parts[0].path,
        source=parts[0].source,
        start=0,
        end=0,
        rows=sum(part.rows for part in parts),
        size=sum(part.size for part in parts),
        parts=parts,
    )
