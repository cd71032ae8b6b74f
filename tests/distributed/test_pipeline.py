"""Ray Data for real, doubles for the models: units stay whole, and dead engines cost no rows."""

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from c3l_ray.config import GenerateConfig, Layout, Model, NamedScorer, Pools, ScoreConfig, ScorerPool
from c3l_ray.distributed import cluster, pipeline
from c3l_ray.inputs import read
from c3l_ray.runs.folder import Output
from c3l_ray.errors import EngineFailure, PreflightError
from c3l_ray.scenes.world import write_shard
from c3l_ray.schema import replace_columns
from tests.test_schema import RECORD

Make = Callable[..., GenerateConfig]
POOLS = Pools(generators=2, generator_gpus=0.25, scorer_gpus=0.5)

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module", autouse=True)
def ray_cluster() -> Iterator[None]:
    """A local cluster that believes to have a GPU, so that GPU pools are placed too."""
    ray.init(address="local", num_cpus=8, num_gpus=1, include_dashboard=False, log_to_driver=False)
    cluster.set_context()
    yield
    ray.shutdown()


class Pretend:
    """Fills turns slowly enough that several units are in flight at once."""

    def __init__(self, _: GenerateConfig) -> None:
        import random

        self.random = random.Random()

    async def __call__(self, table: pa.Table) -> pa.Table:
        import asyncio

        await asyncio.sleep(self.random.random() / 5)
        return replace_columns(table, turns=[RECORD["turns"]] * table.num_rows)


class DiesOnce:
    """An engine that dies the first time it sees the unit that holds a key."""

    def __init__(self, config: GenerateConfig) -> None:
        self.mark = Path(config.output) / "died"

    async def __call__(self, table: pa.Table) -> pa.Table:
        if "3-00" in table["key"].to_pylist() and not self.mark.exists():
            self.mark.touch()
            raise EngineFailure("its process was killed")
        return replace_columns(table, turns=[RECORD["turns"]] * table.num_rows)


class DiesAlways:
    def __init__(self, _: GenerateConfig) -> None:
        pass

    async def __call__(self, table: pa.Table) -> pa.Table:
        raise EngineFailure("the unit kills it every time")


class PassOn:
    def __init__(self, _: GenerateConfig) -> None:
        pass

    def __call__(self, table: pa.Table) -> pa.Table:
        return table


def write(folder: Path, sizes: list[int], image: bytes = b"x" * 100) -> None:
    folder.mkdir()
    for number, size in enumerate(sizes):
        members = [(f"{number}-{i:02d}.jpg", image) for i in range(size)]
        write_shard(folder / f"{number}.tar", members)


def run(config: GenerateConfig, generate: type) -> Output:
    output = Output(config.output)
    units = pipeline.plan(read.find_shards(config.input, Layout()), Layout(), output)
    for _ in pipeline.run(config, output, units, "origin", generate=generate, score=PassOn):
        pass
    return output


def keys_of(file: str, output: Output) -> list[str]:
    found: list[str] = pq.read_table(Path(output.path) / file)["key"].to_pylist()
    return found


def keys(output: Output) -> list[str]:
    files = [manifest.file for manifest in output.manifests() if manifest.file]
    return sorted(key for file in files for key in keys_of(file, output))


@pytest.mark.parametrize("image_kib", [0.1, 2000])
def test_units_stay_whole_and_in_order_through_the_pipeline(
    config: Make, tmp_path: Path, image_kib: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also above the size at which Ray splits blocks, and with fewer units than it likes to see."""
    sizes = [7, 0, 80, 1, 30]
    write(tmp_path / "in", sizes, b"x" * int(1024 * image_kib))
    made = config(input=(str(tmp_path / "in"),), pools=POOLS)
    monkeypatch.setattr(shards, "UNIT_BYTES", 200 * 2**20)
    for shard in read.find_shards(made.input, Layout()):  # here, where the patched bound is seen
        Output(made.output).note_units(shard, read.index(shard, Layout()))
    output = run(made, Pretend)
    assert sorted(manifest.rows for manifest in output.manifests()) == sorted(sizes)
    expected = [[f"{number}-{i:02d}" for i in range(size)] for number, size in enumerate(sizes)]
    files = [manifest.file for manifest in output.manifests() if manifest.file]
    assert sorted(map(keys_of, files, [output] * len(files))) == sorted(filter(None, expected))


def test_a_dead_engine_is_replaced_and_its_units_are_redone(config: Make, tmp_path: Path) -> None:
    write(tmp_path / "in", [10] * 6)
    made = config(input=(str(tmp_path / "in"),), pools=POOLS)
    Path(made.output).mkdir()
    output = run(made, DiesOnce)
    assert (Path(made.output) / "died").exists()
    assert keys(output) == sorted(f"{n}-{i:02d}" for n in range(6) for i in range(10))


def test_a_unit_that_kills_every_engine_ends_the_job(config: Make, tmp_path: Path) -> None:
    write(tmp_path / "in", [2])
    with pytest.raises(ray.exceptions.RayError):
        run(config(input=(str(tmp_path / "in"),), pools=POOLS), DiesAlways)


def test_the_images_stay_out_where_they_are_not_wanted(config: Make, tmp_path: Path) -> None:
    write(tmp_path / "in", [3])
    output = run(config(input=(str(tmp_path / "in"),), pools=POOLS, images=False), Pretend)
    (manifest,) = output.manifests()
    table = pq.read_table(Path(output.path) / str(manifest.file))
    assert table["image"].null_count == 3 and table["status"].to_pylist() == ["ok"] * 3


def test_a_block_that_is_not_one_unit_is_not_written(config: Make, tmp_path: Path) -> None:
    write(tmp_path / "in", [3, 3])
    output = Output(str(tmp_path / "run"))
    units = pipeline.plan(read.find_shards((str(tmp_path / "in"),), Layout()), Layout(), output)
    whole = [read.read(unit, Layout()) for unit in units]
    for block in (whole[0].slice(1), pa.concat_tables(whole)):
        with pytest.raises(AssertionError, match="came to the writer"):
            pipeline.commit(config(), output, "origin", block)
    assert list(output.manifests()) == []


def score_config(tmp_path: Path, **pools: Any) -> ScoreConfig:
    return ScoreConfig(
        input=(str(tmp_path / "in"),),
        output=str(tmp_path / "run"),
        scorer=NamedScorer(name="s"),
        pools=ScorerPool(**pools),
    )


def test_turns_that_are_there_are_not_generated(tmp_path: Path) -> None:
    """Also from files so small that they are joined into one unit."""
    (tmp_path / "in").mkdir()
    for number in range(3):
        columns = {"image": [b"x"] * 2, "question": ["Q", None], "answer": [str(number)] * 2}
        pq.write_table(pa.table(columns), tmp_path / "in" / f"{number}.parquet")
    config = cluster.scorers_placed(score_config(tmp_path, scorer_gpus=0.25))
    output = Output(config.output)
    units = pipeline.plan(read.find_shards(config.input, config.layout), config.layout, output)
    done = list(pipeline.run(config, output, units, "origin", generate=None, score=PassOn))
    assert len(done) == 1 and done[0].status == {"ok": 3, "failed": 3}
    assert done[0].turns == {"ok": 3, "unasked": 3} and done[0].reasons == {"no_turn": 3}
    rows = output.records(done[0]).to_pylist()
    assert [row["turns"][0]["answer"] for row in rows] == ["0", "0", "1", "1", "2", "2"]


def test_a_scorer_without_generators_has_a_gpu_of_its_own(tmp_path: Path) -> None:
    assert cluster.scorers_placed(score_config(tmp_path)).pools.scorer_gpus == 1
    both = score_config(tmp_path, scorers=2)
    with pytest.raises(PreflightError, match=r"2 scorers with 1 GPUs each take 2 GPUs, and this machine"):
        cluster.scorers_placed(both)
    shared = score_config(tmp_path, scorers=2, scorer_gpus=0.5)
    assert cluster.scorers_placed(shared) == shared


def test_gpus_are_shared_where_there_is_one(config: Make) -> None:
    found = cluster.placed(config())
    assert (found.pools.generator_gpus, found.pools.scorer_gpus) == (0.7, 0.3)
    assert found.model.gpu_memory == pytest.approx(0.63)


def test_what_the_user_says_of_gpus_stays(config: Make) -> None:
    found = cluster.placed(config(pools=Pools(generator_gpus=0.25, scorer_gpus=0)))
    assert (found.pools.generator_gpus, found.pools.scorer_gpus) == (0.25, 0)


def test_an_output_reaches_other_processes_wherever_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sent = pickle.dumps(Output("run"))
    monkeypatch.chdir("/")
    assert pickle.loads(sent).root == str(tmp_path / "run")


def test_pools_that_this_machine_cannot_place_are_refused(config: Make) -> None:
    with pytest.raises(PreflightError, match=r"take 2\.5 GPUs, and this machine has 1"):
        cluster.placed(config(pools=Pools(generators=2, generator_gpus=1)))
    with pytest.raises(PreflightError, match="above 1 only whole numbers"):
        cluster.placed(config(pools=Pools(generator_gpus=1.5)))
    with pytest.raises(PreflightError, match=r"--model\.tensor-parallel 2 needs as many"):
        model = Model(name="m", tensor_parallel=2)
        cluster.placed(config(model=model, pools=Pools(generator_gpus=1)))


def test_training_workers_are_placed_as_the_pools_are() -> None:
    assert [cluster.worker_gpus(1, gpus) for gpus in (None, 0, 0.5)] == [1, 0, 0.5]
    with pytest.raises(PreflightError, match=r"--workers: 2 workers with 1 GPUs each take 2 GPUs, and th"):
        cluster.worker_gpus(2, None)
    with pytest.raises(PreflightError, match=r"--workers\.gpus 1\.5: above 1 only whole numbers"):
        cluster.worker_gpus(1, 1.5)


def test_a_cluster_that_may_grow_is_asked_for_whole_gpus(
    config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "somewhere")
    found = cluster.placed(config(pools=Pools(generators=8)))
    assert (found.pools.generator_gpus, found.pools.scorer_gpus) == (1, 0.5)
