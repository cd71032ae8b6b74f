"""The job handed to a running cluster with `ray job submit`, which asks for a token."""

import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from c3l_ray.scenes import world
from tests.jobs.commands import ROOT, read_records, read_report

BIN = Path(sys.executable).parent
PORTS = (
    "port",
    "dashboard-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "metrics-export-port",
    "ray-client-server-port",
    "node-manager-port",
    "object-manager-port",
)


@dataclass(frozen=True)
class Head:
    """A Ray head on loopback."""

    address: str
    token: Path


def make_environment(token: Path) -> dict[str, str]:
    """The environment of a process with this token: the head, its jobs, and who submits them."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("RAY_ADDRESS", "RAY_AUTH_TOKEN")
    }
    return {
        **inherited,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
    }


def write_token(path: Path) -> Path:
    path.write_text(secrets.token_hex(32))
    return path


def find_free_ports(count: int) -> list[int]:
    """Ports below those of Ray's workers and of the S3 server."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(8000, 10_000)
        with socket.socket() as probe:
            if port not in ports and probe.connect_ex(("127.0.0.1", port)) != 0:
                ports.append(port)
    return ports


def request_status(address: str, token: str | None) -> int | None:
    """The status of a dashboard's answer to a request with this token; None without an answer."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        request = urllib.request.Request(f"{address}/api/jobs/", headers=headers)
        with urllib.request.urlopen(request, timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def kill_with_children(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and all that it has started, whichever process group that is in."""
    if process.poll() is None:
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGKILL)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children, timeout=10)
    process.wait()


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    folder = tmp_path_factory.mktemp("head")
    sockets = tempfile.mkdtemp(prefix="c3l-", dir="/tmp")  # the path of a socket is short
    ports = dict(zip(PORTS, find_free_ports(len(PORTS)), strict=True))
    started = Head(
        address=f"http://127.0.0.1:{ports['dashboard-port']}", token=write_token(folder / "token")
    )
    process = subprocess.Popen(
        [
            *("ray", "start", "--head", "--block", f"--temp-dir={sockets}", "--num-cpus=8"),
            *("--num-gpus=0", "--dashboard-host=127.0.0.1", f"--object-store-memory={2**28}"),
            *(f"--{name}={port}" for name, port in ports.items()),
        ],
        cwd=folder,
        env=make_environment(started.token),
        stdout=(folder / "log").open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while request_status(started.address, started.token.read_text()) != 200:
            log = (folder / "log").read_text()
            assert process.poll() is None and time.monotonic() < deadline, log
            time.sleep(0.5)
        yield started
    finally:
        kill_with_children(process)
        shutil.rmtree(sockets, ignore_errors=True)


def submit(
    head: Head, *entrypoint: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *("ray", "job", "submit", "--address", head.address, "--working-dir", "."),
            *("--", *entrypoint),
        ],
        cwd=ROOT,
        env=environment or make_environment(head.token),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def make_generate_command(input_: Path, output: Path) -> list[str]:
    """As a user writes it: the models' paths are in the working directory, which travels."""
    llava, clip = (path.relative_to(ROOT) for path in (world.LLAVA, world.CLIP))
    return [
        *("python", "-m", "jobs.generate", "--input", str(input_), "--output", str(output)),
        *("--model.name", str(llava), "--model.dtype", "float32", "--model.max-len", "256"),
        *("--model.max-seqs", "32", "--sampling.max-tokens", "96", "--clip.name", str(clip)),
    ]


def test_a_submitted_job_writes_its_records_and_the_same_command_resumes(
    head: Head, tmp_path: Path
) -> None:
    world.write_scenes(tmp_path / "in", num_scenes=6, scenes_per_shard=3)
    command = make_generate_command(tmp_path / "in", tmp_path / "run")
    done = submit(head, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "images   6: ok 6" in done.stdout and "succeeded" in done.stdout
    records = read_records(tmp_path / "run")
    assert len({record["image_id"] for record in records}) == len(records) == 6
    model = read_report(tmp_path / "run")["config"]["model"]["name"]
    assert "working_dir_files" in model  # the weights that travelled, not those of this checkout

    again = submit(head, *command)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "2 units; 2 of these are done" in again.stdout


def test_ignored_files_and_the_repository_itself_do_not_travel(head: Head) -> None:
    (ROOT / "runs").mkdir(exist_ok=True)
    files = "[str(path) for path in pathlib.Path().rglob('*') if path.is_file()]"
    with tempfile.NamedTemporaryFile(dir=ROOT / "runs"):
        listed = submit(head, "python", "-c", f"import json, pathlib; print(json.dumps({files}))")
    assert listed.returncode == 0, listed.stdout + listed.stderr
    line = next(line for line in listed.stdout.splitlines() if line.startswith('["'))
    travelled = {Path(name) for name in json.loads(line)}
    assert (world.LLAVA / "model.safetensors").relative_to(ROOT) in travelled
    top = {path.parts[0] for path in travelled}
    assert {"jobs", "c3l_ray"} <= top
    assert not top & {"runs", ".git", ".venv", ".mypy_cache", ".pytest_cache"}


def test_a_refused_job_ends_the_client_with_status_1_and_says_why(
    head: Head, tmp_path: Path
) -> None:
    refused = submit(head, *make_generate_command(tmp_path / "absent", tmp_path / "run"))
    assert refused.returncode == 1
    assert "absent: does not exist" in refused.stdout
    assert "exit code 2" in refused.stdout + refused.stderr
    assert not (tmp_path / "run").exists()


def test_without_a_token_a_job_is_refused(head: Head) -> None:
    assert request_status(head.address, None) == 401
    no_token = {**make_environment(head.token), "RAY_AUTH_MODE": "disabled"}
    refused = submit(head, "python", "-c", "print(6 * 7)", environment=no_token)
    assert refused.returncode == 1 and "42" not in refused.stdout
    assert "Missing authentication token" in refused.stderr


def test_with_a_wrong_token_a_job_is_refused(head: Head, tmp_path: Path) -> None:
    wrong = write_token(tmp_path / "wrong")
    assert request_status(head.address, wrong.read_text()) == 403
    refused = submit(head, "python", "-c", "print(6 * 7)", environment=make_environment(wrong))
    assert refused.returncode == 1 and "42" not in refused.stdout
    assert "Invalid authentication token" in refused.stderr
