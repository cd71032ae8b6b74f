"""Ray Data for real, doubles for the models: units stay whole, and dead engines cost no rows."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from ray.data import DataContext

from c3l_ray.config import GenerateConfig
from c3l_ray.distributed import cluster, pipeline, processes
from c3l_ray.distributed.stop_flag import StopFlag
from c3l_ray.errors import last_line
from c3l_ray.inputs import read
from c3l_ray.inputs.find import find_shards
from c3l_ray.inputs.index import write_units
from c3l_ray.inputs.layout import Layout
from c3l_ray.model_config import Pools
from c3l_ray.runs.commit import read_manifests, read_records
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.retry import plan_retry
from c3l_ray.scenes.world import write_shard
from tests.distributed.configs import make_score_config
from tests.distributed.doubles import (
    DiesAlways,
    DiesOnce,
    FailsAlways,
    FailsOnce,
    GivesUp,
    IsKilled,
    IsKilledWhileScoring,
    PassOn,
    Pretend,
    RefusesUntilMended,
    Stumbles,
    TakesASecond,
)
from tests.examples import MakeConfig

POOLS = Pools(generators=2, generator_gpus=0.25, scorer_gpus=0.5)

pytestmark = pytest.mark.timeout(400)


def write_tars(path: Path, sizes: list[int], image: bytes = b"x" * 100) -> None:
    path.mkdir()
    for number, size in enumerate(sizes):
        members = [(f"{number}-{i:02d}.jpg", image) for i in range(size)]
        write_shard(path / f"{number}.tar", members)


def process(config: GenerateConfig, generator: type, scorer: type = PassOn) -> RunFolder:
    """The folder of a run that this generator has written."""
    folder = RunFolder.open(config.output)
    units = pipeline.plan_units(find_shards(config.input, Layout()), Layout(), folder)
    for _ in pipeline.process_units(
        config, folder, units, "origin", generates=True, generator=generator, scorer=scorer
    ):
        pass
    return folder


def read_keys_of_units(folder: RunFolder) -> list[list[str]]:
    """The keys of each unit that has a file, in their order."""
    return [
        read_records(folder, manifest)["key"].to_pylist()
        for manifest in read_manifests(folder)
        if manifest.file
    ]


@pytest.mark.parametrize("image_kib", [0.1, 2000])
def test_units_stay_whole_and_in_order_through_the_pipeline(
    config: MakeConfig, tmp_path: Path, image_kib: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also above the size at which Ray splits blocks, and with fewer units than it likes to see."""
    sizes = [7, 0, 80, 1, 30]
    write_tars(tmp_path / "in", sizes, b"x" * int(1024 * image_kib))
    large = config(input=(str(tmp_path / "in"),), pools=POOLS)
    monkeypatch.setattr(read, "UNIT_BYTES", 200 * 2**20)
    for shard in find_shards(large.input, Layout()):  # here, where the patched bound is seen
        write_units(RunFolder.open(large.output), shard, read.index_shard(shard, Layout()))
    folder = process(large, Pretend)
    images = [manifest.counts.images for manifest in read_manifests(folder)]
    assert sorted(images) == sorted(sizes)
    expected = [[f"{number}-{i:02d}" for i in range(size)] for number, size in enumerate(sizes)]
    assert sorted(read_keys_of_units(folder)) == sorted(filter(None, expected))


def test_a_dead_engine_is_replaced_and_noted_and_its_units_are_redone(
    config: MakeConfig, tmp_path: Path
) -> None:
    write_tars(tmp_path / "in", [10] * 6)
    mortal = config(input=(str(tmp_path / "in"),), pools=POOLS)
    Path(mortal.output).mkdir()
    folder = process(mortal, DiesOnce)
    assert (Path(mortal.output) / "died").exists()
    keys = sorted(key for keys in read_keys_of_units(folder) for key in keys)
    assert keys == sorted(f"{number}-{i:02d}" for number in range(6) for i in range(10))
    notes = [manifest.counts.notes for manifest in read_manifests(folder)]
    assert sorted(notes, key=len) == [{}] * 5 + [{processes.GENERATOR_RESTARTED: 1}]


def test_rows_that_kill_their_process_fail_alone(config: MakeConfig, tmp_path: Path) -> None:
    """One image kills a generator, at another one it hangs; a third one kills a scorer."""
    write_tars(tmp_path / "in", [10] * 4)
    poisoned = config(input=(str(tmp_path / "in"),), pools=POOLS, stall_timeout=3)
    folder = process(poisoned, IsKilled, IsKilledWhileScoring)
    records = {
        record["key"]: record
        for manifest in read_manifests(folder)
        for record in read_records(folder, manifest).to_pylist()
    }
    assert len(records) == 40
    errors = {key: record["error"] for key, record in records.items() if record["error"]}
    assert errors.keys() == {*IsKilled.POISON, IsKilledWhileScoring.POISON}
    assert all(error.startswith("fatal: it killed the ") for error in errors.values())
    assert "ok" not in {turn["status"] for turn in records["1-07"]["turns"]}
    reasons = [manifest.counts.reasons for manifest in read_manifests(folder)]
    assert sorted(reasons, key=len) == [{}] * 3 + [{"fatal": 3}]
    letters = sorted((Path(folder.path) / "errors").iterdir())
    assert len(letters) == 2
    assert "1.tar 1-03, in the generating process" in letters[0].read_text()
    assert "logs/worker-" in letters[1].read_text()


def test_an_exception_fails_its_row_and_leaves_its_trace(
    config: MakeConfig, tmp_path: Path
) -> None:
    write_tars(tmp_path / "in", [3] * 4)
    folder = process(config(input=(str(tmp_path / "in"),), pools=POOLS), Pretend, Stumbles)
    counts = [manifest.counts for manifest in read_manifests(folder)]
    assert sum(count.images for count in counts) == 12
    assert sorted((count.reasons for count in counts), key=len) == [{}] * 3 + [{"exception": 1}]
    assert [count.failure_examples for count in counts if count.reasons] == [
        {"exception": "2.tar 2-01: exception: ValueError: no model reads this"}
    ]
    (letter,) = (Path(folder.path) / "errors").iterdir()
    text = letter.read_text()
    assert "2.tar 2-01, in the scoring process" in text and "Traceback" in text
    assert "To change that, write another" in text


def test_no_unit_is_begun_once_the_job_is_to_stop(config: MakeConfig, tmp_path: Path) -> None:
    """Those that are under way are committed, and a later command does the others."""
    write_tars(tmp_path / "in", [5] * 40)
    stopped = config(input=(str(tmp_path / "in"),), pools=Pools(generators=1, scorer_gpus=0.5))
    folder = RunFolder.open(stopped.output)
    units = pipeline.plan_units(find_shards(stopped.input, Layout()), Layout(), folder)
    flag = StopFlag()
    manifests = []
    for manifest in pipeline.process_units(
        stopped,
        folder,
        units,
        "origin",
        generates=True,
        generator=TakesASecond,
        scorer=PassOn,
        flag=flag,
    ):
        manifests.append(manifest.unit)
        flag.put_up()
    done = [manifest.unit for manifest in read_manifests(folder)]
    assert sorted(manifests) == done and 1 <= len(done) < len(units)


def test_engines_that_die_on_everything_end_the_job(config: MakeConfig, tmp_path: Path) -> None:
    write_tars(tmp_path / "in", [20])
    with pytest.raises(ray.exceptions.RayError) as raised:
        process(config(input=(str(tmp_path / "in"),), pools=POOLS), DiesAlways)
    assert "8 generating processes died in a row" in last_line(raised.value)


@pytest.mark.parametrize("place", ["reader", "actor", "writer"])
def test_the_cause_of_an_end_is_the_exception_in_its_own_words(
    place: str, config: MakeConfig, tmp_path: Path
) -> None:
    write_tars(tmp_path / "in", [2])
    broken = config(input=(str(tmp_path / "in"),), pools=POOLS)
    folder = RunFolder.open(broken.output)
    units = pipeline.plan_units(find_shards(broken.input, Layout()), Layout(), folder)
    expected = "c3l_ray.errors.C3LError: no model reads this To change that, write another"
    if place == "reader":
        (tmp_path / "in" / "0.tar").unlink()
        expected = "FileNotFoundError: [Errno 2] No such file or directory: "
    elif place == "writer":
        (Path(broken.output) / "records").write_text("a file where a folder is to be")
        expected = "FileExistsError: [Errno 17] File exists: "
    scorer = GivesUp if place == "actor" else PassOn
    with pytest.raises(ray.exceptions.RayError) as raised:
        list(
            pipeline.process_units(broken, folder, units, "origin", generates=False, scorer=scorer)
        )
    assert last_line(raised.value).startswith(expected)


def test_a_failed_scorer_is_replaced_and_noted_and_its_unit_is_redone(
    config: MakeConfig, tmp_path: Path
) -> None:
    write_tars(tmp_path / "in", [2] * 3)
    mortal = config(input=(str(tmp_path / "in"),), pools=POOLS)
    Path(mortal.output).mkdir()
    folder = process(mortal, Pretend, FailsOnce)
    assert sorted(manifest.counts.images for manifest in read_manifests(folder)) == [2] * 3
    notes = [manifest.counts.notes for manifest in read_manifests(folder)]
    assert sorted(notes, key=len) == [{}] * 2 + [{processes.SCORER_RESTARTED: 1}]


def test_a_scorer_that_fails_again_ends_the_job_with_its_reason(
    config: MakeConfig, tmp_path: Path
) -> None:
    write_tars(tmp_path / "in", [2])
    with pytest.raises(ray.exceptions.RayError, match="no kernel image") as raised:
        process(config(input=(str(tmp_path / "in"),), pools=POOLS), Pretend, FailsAlways)
    assert "no kernel image is available" in last_line(raised.value)


def test_the_images_stay_out_where_they_are_not_wanted(config: MakeConfig, tmp_path: Path) -> None:
    write_tars(tmp_path / "in", [3])
    without_images = config(input=(str(tmp_path / "in"),), pools=POOLS, keep_images=False)
    folder = process(without_images, Pretend)
    (manifest,) = read_manifests(folder)
    table = pq.read_table(Path(folder.path) / str(manifest.file))
    assert table["image"].null_count == 3 and table["status"].to_pylist() == ["ok"] * 3


def test_a_block_that_is_not_one_unit_is_not_written(tmp_path: Path) -> None:
    write_tars(tmp_path / "in", [3, 3])
    folder = RunFolder.open(str(tmp_path / "run"))
    shards = find_shards((str(tmp_path / "in"),), Layout())
    units = pipeline.plan_units(shards, Layout(), folder)
    tables = [read.read_unit(unit, Layout()) for unit in units]
    for block in (tables[0].slice(1), pa.concat_tables(tables)):
        with pytest.raises(AssertionError, match="came to the writer"):
            pipeline.commit_block(True, folder, "origin", block)
    assert list(read_manifests(folder)) == []


def test_a_larger_pool_may_lose_more_actors_while_it_starts() -> None:
    allowed = {}
    for size in (1, 16):
        pipeline.allow_start_deaths(size)
        allowed[size] = DataContext.get_current().max_consecutive_actor_init_deaths
    assert allowed == {1: 3, 16: 32}


def test_turns_that_are_there_are_not_generated(tmp_path: Path) -> None:
    """Also from files so small that they are joined into one unit."""
    (tmp_path / "in").mkdir()
    for number in range(3):
        columns = {"image": [b"x"] * 2, "question": ["Q", None], "answer": [str(number)] * 2}
        pq.write_table(pa.table(columns), tmp_path / "in" / f"{number}.parquet")
    config = cluster.with_scorer_gpus(make_score_config(tmp_path, scorer_gpus=0.25))
    folder = RunFolder.open(config.output)
    shards = find_shards(config.input, config.layout)
    units = pipeline.plan_units(shards, config.layout, folder)
    (manifest,) = pipeline.process_units(
        config, folder, units, "origin", generates=False, scorer=PassOn
    )
    assert manifest.counts.status == {"ok": 3, "failed": 3}
    assert manifest.counts.turn_status == {"ok": 3, "missing_question": 3}
    assert manifest.counts.reasons == {"no_turn": 3}
    records = read_records(folder, manifest).to_pylist()
    assert [record["turns"][0]["answer"] for record in records] == ["0", "0", "1", "1", "2", "2"]


def test_failed_rows_alone_are_done_again(config: MakeConfig, tmp_path: Path) -> None:
    write_tars(tmp_path / "in", [3, 1, 12], b"x")
    of_three = config(input=(str(tmp_path / "in"),), pools=POOLS)
    write_shard(tmp_path / "in" / "3.tar", [("3-01.jpg", b"x")])
    folder = process(of_three, RefusesUntilMended)
    before = {manifest.unit: manifest for manifest in read_manifests(folder)}
    retry = plan_retry(before.values(), ())
    assert retry.reasons == {"refused"} and len(retry.manifests) == 3
    write_shard(tmp_path / "in" / "3.tar", [("3-99.jpg", b"x")])  # another image, as large
    (tmp_path / "run" / "mended").touch()
    units = pipeline.plan_units(find_shards(of_three.input, Layout()), Layout(), folder)
    healed = list(
        pipeline.process_units(
            of_three,
            folder,
            [unit for unit in units if unit.name in retry.manifests],
            "origin",
            generates=True,
            generator=RefusesUntilMended,
            scorer=PassOn,
            retry=retry,
        )
    )
    after = {manifest.unit: manifest for manifest in read_manifests(folder)}
    assert sorted(manifest.edition for manifest in after.values()) == [0, 0, 1, 1]
    assert len(healed) == 2 and all(after[manifest.unit] == manifest for manifest in healed)
    statuses = [manifest.counts.status for manifest in after.values()]
    assert sorted(statuses, key=str) == [{"failed": 1}, {"ok": 12}, {"ok": 1}, {"ok": 3}]
    assert sorted(map(len, read_keys_of_units(folder))) == [1, 1, 3, 12]
    for manifest in healed:
        rows = zip(
            read_records(folder, before[manifest.unit]).to_pylist(),
            read_records(folder, manifest).to_pylist(),
            strict=True,
        )
        for row_before, row in rows:
            assert row["error"] is None and row["key"] == row_before["key"]
            assert (row == row_before) == (row_before["error"] is None)
