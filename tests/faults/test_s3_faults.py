"""S3 that fails, for real: requests through s3fs to a server behind a proxy that fails."""

import dataclasses
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs
from botocore.exceptions import ClientError, EndpointConnectionError

from c3l_ray import storage, storage_faults
from c3l_ray.errors import C3LError, PreflightError
from c3l_ray.inputs import read
from c3l_ray.inputs.find import find_shards
from c3l_ray.inputs.layout import Layout
from c3l_ray.runs.commit import commit_unit, read_manifests
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.write_probe import check_writable
from c3l_ray.storage import Location
from tests.faults import commit_kills
from tests.faults.s3_proxy import Faults, S3Proxy, failing_s3

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def units_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "UNIT_ROWS", read.UNIT_ROWS)  # which a job of the harness changes


@pytest.fixture
def proxy(s3: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    """A proxy before the S3 server, which the AWS environment of this process points at."""
    with failing_s3(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        s3fs.S3FileSystem.clear_instance_cache()
        yield proxy


@pytest.fixture
def images(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tar of three units on S3, which also lies in `images` here."""
    monkeypatch.setattr(commit_kills, "NUM_SHARDS", 1)
    commit_kills.write_input(tmp_path / "images", "tar")
    for tar in (tmp_path / "images").iterdir():
        (Location.connect(f"{s3}/images") / tar.name).write(tar.read_bytes())
    return f"{s3}/images"


@pytest.fixture
def expected(images: str, tmp_path: Path) -> list[str]:
    """The rows of a job without faults, on a local disk."""
    commit_kills.do_job(str(tmp_path / "images"), str(tmp_path / "clean"), tmp_path / "clean.txt")
    rows = find_rows(str(tmp_path / "clean"))
    assert len(rows) == commit_kills.IMAGES_PER_SHARD
    return rows


def set_credentials(monkeypatch: pytest.MonkeyPatch, key: str | None, secret: str | None) -> None:
    for name, value in (("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", secret)):
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()


def find_rows(output: str) -> list[str]:
    assert commit_kills.count_strays(output) == 0
    return commit_kills.list_rows(output)


TRANSIENT = {
    "throttling": Faults(every=5, status=503, code="SlowDown"),
    "an internal error": Faults(every=5, status=500, code="InternalError"),
    "a conflict of writers": Faults(
        every=4, status=409, code="ConditionalRequestConflict", methods=("PUT",)
    ),
    "a reset": Faults(every=3, how="reset"),
    "an answer that is lost": Faults(every=3, how="lost"),
    "an answer that is cut": Faults(every=3, how="cut", methods=("GET",)),
}


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_job_goes_on_through_faults_that_pass(
    fault: str, proxy: S3Proxy, images: str, expected: list[str], s3: str, tmp_path: Path
) -> None:
    proxy.faults = dataclasses.replace(TRANSIENT[fault])
    commit_kills.do_job(images, f"{s3}/run", tmp_path / "computed")
    proxy.faults = Faults()
    assert proxy.num_failed >= 2
    assert find_rows(f"{s3}/run") == expected


def test_a_job_goes_on_when_the_endpoint_was_away(
    proxy: S3Proxy,
    images: str,
    expected: list[str],
    s3: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """For 12 seconds; s3fs by itself gives up before, at a refused connection."""
    returns: list[threading.Thread] = []

    def commit_and_lose_endpoint(*args: Any) -> Any:
        manifest = commit_unit(*args)
        if not returns:
            returns.append(proxy.go_away(12))
        return manifest

    monkeypatch.setattr(commit_kills, "commit_unit", commit_and_lose_endpoint)
    monkeypatch.setattr(storage_faults, "_SAY_EVERY_S", 0.0)  # another test may just have said it
    started = time.monotonic()
    commit_kills.do_job(images, f"{s3}/run", tmp_path / "computed")
    assert time.monotonic() - started > 12
    returns[0].join()
    assert find_rows(f"{s3}/run") == expected
    assert "S3 does not answer as it should, and is asked again: Could not connect" in caplog.text


def test_an_endpoint_that_stays_away_is_given_up_with_what_to_do(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "ATTEMPTS", 2)
    monkeypatch.setattr(storage, "ATTEMPTS_AT_ONCE", 2)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    message = (
        f"--output {s3}/run: the S3 store at http://127.0.0.1:9 does not answer as it should .*; "
        "correct AWS_ENDPOINT_URL, or run the same command again"
    )
    with pytest.raises(C3LError, match=message) as raised:
        RunFolder.open(f"{s3}/run").check_free("generate")
    assert raised.value.exit_status == 1  # the same command may succeed later
    s3fs.S3FileSystem.clear_instance_cache()


PERMANENT = {
    "a wrong secret": ("writeraccess", "planted-secret", "", "refuses it to these credentials"),
    "an unknown key": ("planted-key", "planted-secret", "", "refuses it to these credentials"),
    "no credentials": (None, None, "", "there are no credentials for .*; set AWS_ACCESS_KEY_ID"),
    "no permission": (
        *("readeraccess", "readersecret", ""),
        r"refuses it to these credentials \(AccessDenied\); .* to write and delete, in bucket data",
    ),
    "no bucket": (
        *("writeraccess", "writersecret", "s3://nowhere/run"),
        "has no bucket nowhere; create it, or correct its name",
    ),
}


@pytest.mark.parametrize("fault", PERMANENT)
def test_what_does_not_pass_is_refused_at_once(
    fault: str, proxy: S3Proxy, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one sentence with address and advice, without a secret, and without a second try."""
    key, secret, output, message = PERMANENT[fault]
    output = output or f"{s3}/run"
    set_credentials(monkeypatch, key, secret)
    with pytest.raises(PreflightError) as raised:
        RunFolder.open(output).check_free("generate")
    text = str(raised.value)
    assert re.search(f"^--output {output}: the S3 store at {proxy.endpoint} {message}", text) or (
        re.search(f"^--output {output}: {message}", text)
    )
    assert "planted" not in text and "secret" not in text and "\n" not in text
    requests = Counter((method, path) for method, path, status in proxy.requests if status >= 400)
    assert max(requests.values(), default=0) <= 1 + ("bucket" in fault)


@pytest.mark.parametrize("fault", [name for name in PERMANENT if name != "no permission"])
def test_an_input_on_s3_that_cannot_be_read_is_refused_with_what_to_do(
    fault: str, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, secret, address, _ = PERMANENT[fault]
    set_credentials(monkeypatch, key, secret)
    advice = "does not exist" if "bucket" in fault else "AWS_SECRET_ACCESS_KEY"
    for input_ in (address or f"{s3}/images", (address or s3).rpartition("/")[0]):
        with pytest.raises(PreflightError, match=f"^--input {input_}: .*{advice}") as raised:
            find_shards((input_,), Layout())
        assert "planted" not in str(raised.value)


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        (Faults(ignores_conditions=True), r"ignores conditional writes \(If-None-Match\)"),
        (Faults(refuses_conditions=True), r"does not take conditional writes \(If-None-Match\)"),
    ],
    ids=["ignored", "refused"],
)
def test_a_store_without_conditional_writes_is_refused(
    faults: Faults, message: str, proxy: S3Proxy, s3: str
) -> None:
    folder = RunFolder.open(f"{s3}/run")
    proxy.faults = faults
    with pytest.raises(PreflightError, match=f"--output {s3}/run: .*{message}.*AWS S3 or MinIO"):
        folder.check_free("generate")
    check_writable(folder.location, "--output", folder.path, exclusive=False)
    proxy.faults = Faults()
    assert folder.location.list_children() == []  # the probe leaves nothing


def test_a_store_with_conditional_writes_is_probed_and_left_as_it_was(
    proxy: S3Proxy, s3: str
) -> None:
    folder = RunFolder.open(f"{s3}/run")
    folder.check_free("generate")
    assert folder.location.list_children() == []
    puts = [status for method, _, status in proxy.requests if method == "PUT"]
    assert puts == [200, 412, 200] and len(proxy.requests) < 25


def test_no_secret_is_written_or_logged(
    proxy: S3Proxy,
    images: str,
    s3: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    proxy.faults = Faults(every=4)
    with caplog.at_level("INFO"):
        commit_kills.do_job(images, f"{s3}/run", tmp_path / "computed")
    proxy.faults = Faults()
    location = Location.connect(f"{s3}/run")
    written = [location.fs.cat_file(path) for path in location.fs.find(location.path)]
    assert len(written) > len(list(read_manifests(RunFolder.open(f"{s3}/run")))) > 0
    for secret in ("writersecret", "writeraccess"):
        assert secret not in caplog.text
        assert not any(secret.encode() in content for content in written)


def test_an_endpoint_is_named_without_its_password() -> None:
    refused = ClientError({"Error": {"Code": "NoSuchBucket"}}, "PutObject")
    endpoint = "https://user:planted@store:9000"
    assert storage_faults.explain(refused, "b", endpoint).startswith(
        "the S3 store at https://store:9000 has no bucket b; "
    )
    away = EndpointConnectionError(endpoint_url=endpoint)
    assert "planted" not in storage_faults.explain(away, "b", endpoint)


@pytest.mark.parametrize("kind", ["tar", "parquet"])
@pytest.mark.parametrize(
    "fault", [Faults(every=1, status=403, code="ExpiredToken"), Faults(every=1, how="cut")]
)
def test_a_storage_that_fails_for_good_makes_no_failed_rows(
    fault: Faults,
    kind: str,
    proxy: S3Proxy,
    s3: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where credentials expire: a unit is not committed with its images as unreadable."""
    monkeypatch.setattr(storage, "ATTEMPTS", 2)
    monkeypatch.setattr(storage, "ATTEMPTS_AT_ONCE", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    commit_kills.write_input(tmp_path / "images", kind)
    for file in (tmp_path / "images").iterdir():
        (Location.connect(f"{s3}/{kind}") / file.name).write(file.read_bytes())
    shard = find_shards((f"{s3}/{kind}",), Layout())[0]
    (unit,) = read.index_shard(shard, Layout())
    proxy.faults = dataclasses.replace(fault, methods=("GET", "HEAD"))
    steps: list[Callable[[], Any]] = [
        lambda: read.read_unit(unit, Layout(), []),
        lambda: read.index_shard(shard, Layout()),
    ]
    for step in steps:
        with pytest.raises(Exception) as raised:
            step()
        assert storage.is_fault(raised.value)  # which ends the job, to be resumed
    s3fs.S3FileSystem.clear_instance_cache()
