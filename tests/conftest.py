"""Every process of the suite: one thread, no hub, no tokens; and small inputs to work on."""

import os

os.environ.update(
    OMP_NUM_THREADS="1",
    HF_HUB_OFFLINE="1",
    RAY_AUTH_MODE="disabled",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_worker_niceness="0",  # of 15, on a busy machine a worker waits longer than tests do
    TOKENIZERS_PARALLELISM="false",
)

import gc
import io
import json
import logging
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions
import botocore.session
import pytest
from PIL import Image

from c3l_ray.config import GenerateConfig
from c3l_ray.model_config import ClipModel, GeneratorModel, Sampling
from c3l_ray.scenes import world
from tests.examples import EncodeImage, MakeConfig


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def library_logger() -> Iterator[None]:
    """Leaves the library's logger as it was: a job that runs in this process sets it up."""
    logger = logging.getLogger("c3l_ray")
    before = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, level, logger.propagate = before
    logger.setLevel(level)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Twelve scenes in two shards."""
    world.write_scenes(tmp_path / "scenes", num_scenes=12, scenes_per_shard=6)
    return tmp_path / "scenes"


@pytest.fixture
def config(tmp_path: Path) -> MakeConfig:
    """A config over the shipped models, with some fields replaced."""

    def make(**changes: Any) -> GenerateConfig:
        fields: dict[str, Any] = {
            "input": (str(tmp_path / "scenes"),),
            "output": str(tmp_path / "run"),
            "model": GeneratorModel(
                name=str(world.LLAVA), dtype="float32", max_len=256, max_seqs=32
            ),
            "sampling": Sampling(max_tokens=96),
            "clip": ClipModel(name=str(world.CLIP), weights=None),
        }
        return GenerateConfig(**{**fields, **changes})

    return make


@pytest.fixture
def encoded() -> EncodeImage:
    """An image as bytes: a gradient of a size, in a mode and format."""

    def make(size: tuple[int, int] = (40, 30), mode: str = "RGB", format_: str = "PNG") -> bytes:
        image = Image.linear_gradient("L").resize(size).convert(mode)
        buffer = io.BytesIO()
        image.save(buffer, format_)
        return buffer.getvalue()

    return make


TESTS = Path(__file__).parent

IDENTITIES = {
    "identities": [
        {
            "name": name,
            "credentials": [{"accessKey": f"{name}access", "secretKey": f"{name}secret"}],
            "actions": actions,
        }
        for name, actions in (
            ("writer", ["Admin", "Read", "Write", "List", "Tagging"]),
            ("reader", ["Read:data", "List:data"]),
        )
    ]
}


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real S3 server on loopback, with a bucket `data`; its endpoint."""
    folder = tmp_path_factory.mktemp("s3")
    (folder / "identities.json").write_text(json.dumps(IDENTITIES))
    # Each port is used again 10,000 higher; both stay clear of Ray's workers and of ephemeral ones,
    # and of the ports of a second process of the suite.
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    port = random.randrange(20_100 + 10 * (process % 2), 21_900, 20)
    ports = ("s3", "master", "volume", "filer", "admin")
    server = subprocess.Popen(
        [
            *(shutil.which("weed", path=str(Path(sys.executable).parent)) or "weed", "mini"),
            *(f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"),
            *("-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            *(f"-{name}.port={port + number}" for number, name in enumerate(ports)),
            "-s3.autoCreateBucket=false",
            *("-master.volumeSizeLimitMB=64", f"-s3.config={folder / 'identities.json'}"),
        ],
        stdout=(folder / "log").open("w"),
        stderr=subprocess.STDOUT,
        env={**os.environ, "GOMEMLIMIT": "300MiB"},
    )
    endpoint = f"http://127.0.0.1:{port}"
    client = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="writeraccess",
        aws_secret_access_key="writersecret",
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            client.create_bucket(Bucket="data")
            client.put_object(Bucket="data", Key="ready", Body=b"yes")
            break
        except botocore.exceptions.BotoCoreError:
            assert server.poll() is None and time.monotonic() < deadline, (
                folder / "log"
            ).read_text()
            time.sleep(0.2)
    yield endpoint
    server.kill()  # a polite end takes it a quarter of a minute
    server.wait()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A new prefix on the S3 server, which the AWS environment of this process points at."""
    import s3fs

    for name, value in (
        ("AWS_ENDPOINT_URL", s3_server),
        ("AWS_ACCESS_KEY_ID", "writeraccess"),
        ("AWS_SECRET_ACCESS_KEY", "writersecret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    yield f"s3://data/{random.randrange(10**12)}"
    s3fs.S3FileSystem.clear_instance_cache()


JOB_TIMEOUT_S = 1500
SLOWEST_FIRST = (
    *("jobs/test_generate.py", "jobs/test_train.py", "jobs/test_c3l.py"),
    *("families/test_families.py", "train/test_families.py"),
    *("jobs/test_submit.py", "scenes/test_make_weights.py", "train/learning/test_trainer.py"),
    *("jobs/test_score.py", "distributed/test_pipeline.py", "inference/test_engine.py"),
    *("jobs/test_answer.py", "workflows/test_train_vigc.py", "workflows/test_train_answers.py"),
    *("workflows/test_train_datasets.py", "faults/test_commit_kills.py"),
    "faults/test_s3_faults.py",
)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collects no garbage while it collects tests: the modules that they import are none."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the slowest files first, so that processes that share the suite end together.

    Tests of jobs get more time than others: a job is many processes, and another test may run on
    the same cores.
    """
    ranks = {TESTS / file: rank for rank, file in enumerate(SLOWEST_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))
    for item in items:
        if item.path.parent == TESTS / "jobs" and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(JOB_TIMEOUT_S))
