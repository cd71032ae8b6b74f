"""What the hub's refusals mean: a hub of our own gives the answers that the real one does."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from c3l_ray.inference.hub import explain_hub_error
from c3l_ray.scenes import world

ASK = """
import json, sys, time
time.sleep = lambda _: None  # the hub's client waits between its tries
from c3l_ray.errors import C3LError
from c3l_ray.inference.clip_check import check_clip
from c3l_ray.inference.model_check import inspect_model
for name, revision in json.loads(sys.argv[1]):
    try:
        if name.startswith("hf-hub:"):
            check_clip(name, None)
        else:
            inspect_model("--model.name", name, revision=revision)
    except C3LError as error:
        print(error.exit_status, error)
"""
REFUSALS = [
    (
        "owner/gated",
        None,
        "--model.name owner/gated: cannot be read as a model: is gated on the hub: accept its "
        "terms on https://huggingface.co/owner/gated and log in with `hf auth login`, or set "
        "HF_TOKEN on every node",
    ),
    ("owner/private", None, "the hub has no such model, or a private one"),
    ("owner/model", "v9", "has no such revision on the hub; see --model.revision"),
    ("owner/lora", None, "--model.name owner/lora: is an adapter of peft"),
    ("hf-hub:owner/gated", None, "--clip.name hf-hub:owner/gated: is gated on the hub"),
]
AWAY = "is not on this machine, and the hub cannot be reached"
PASSING = [
    ("owner/broken", None, f"--model.name owner/broken: cannot be read as a model: {AWAY}"),
    ("owner/busy", None, f"--model.name owner/busy: cannot be read as a model: {AWAY}"),
    ("hf-hub:owner/broken", None, f"--clip.name hf-hub:owner/broken: {AWAY}"),
]
"""Faults of the hub that pass: the command that meets one is not refused, but fails."""


class Hub(BaseHTTPRequestHandler):
    """Gated, private, away, adapters and models without a revision, by the repository's name."""

    def do_HEAD(self) -> None:
        body = b"{}"
        if "/gated/" in self.path or "/owner/gated" in self.path:
            self._answer(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access denied"})
        elif "broken" in self.path:
            self._answer(503, {})
        elif "busy" in self.path:
            self._answer(429, {})
        elif "private" in self.path:
            self._answer(401, {"X-Error-Code": "RepoNotFound"})
        elif "/v9/" in self.path:
            self._answer(404, {"X-Error-Code": "RevisionNotFound"})
        elif "lora" in self.path and self.path.endswith("adapter_config.json"):
            body = json.dumps({"peft_type": "LORA"}).encode()
            headers = {"ETag": '"e"', "X-Repo-Commit": "c" * 40, "Content-Length": str(len(body))}
            self._answer(200, headers, body)
        else:
            self._answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": "c" * 40})

    do_GET = do_HEAD

    def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def test_a_refusal_says_the_way_out(hub: str, tmp_path: Path) -> None:
    """In a process of its own: the hub's address is read once."""
    answers = [(2, *refusal) for refusal in REFUSALS] + [(1, *fault) for fault in PASSING]
    names = json.dumps([answer[1:3] for answer in answers])
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path)}
    asked = subprocess.run(
        [sys.executable, "-c", ASK, names],
        env={**environment, "HF_HUB_OFFLINE": "0"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    lines = asked.stdout.splitlines()
    assert len(lines) == len(answers), asked.stdout + asked.stderr
    for line, (exit_status, _, _, message) in zip(lines, answers, strict=True):
        assert line.startswith(f"{exit_status} ") and message in line


LOAD = """
import json
from c3l_ray.model_config import ClipModel, ScorerModel
from c3l_ray.inference.clip_check import check_clip
from c3l_ray.inference.clip_scorer import ClipScorer
from c3l_ray.inference.model_check import inspect_model
from c3l_ray.inference.scoring_model import ScoringModel
from c3l_ray.model_files import resolve_model
latest = inspect_model("--model.name", "owner/llava")
first = inspect_model("--model.name", "owner/llava", revision="v1")
pinned = inspect_model("--model.name", "owner/llava", revision=first.commit)
model = ScoringModel(ScorerModel(revision=first.commit), "owner/llava")
clip = check_clip("hf-hub:owner/clip", None)
ClipScorer(ClipModel(name=clip, weights=None))
print(json.dumps({
    "commits": [latest.commit, first.commit, pinned.commit],
    "identity": first.identity,
    "template": model.processor.chat_template[:5],
    "folder": resolve_model("owner/llava", "v1"),
    "clip": [clip, check_clip(clip, None)],
}))
"""


def cache_model(home: Path, name: str, commits: dict[str, str], source: Path) -> Path:
    """A model as the hub's client caches it: a commit for each branch or tag."""
    cached = home / "hub" / f"models--owner--{name}"
    (cached / "refs").mkdir(parents=True)
    for ref, commit in commits.items():
        (cached / "refs" / ref).write_text(commit)
        shutil.copytree(source, cached / "snapshots" / commit)
    return cached / "snapshots"


def test_a_revision_is_one_commit_for_whoever_loads_it(tmp_path: Path) -> None:
    first, latest, of_clip = "a" * 40, "b" * 40, "c" * 40
    snapshots = cache_model(tmp_path, "llava", {"v1": first, "main": latest}, world.LLAVA)
    cache_model(tmp_path, "clip", {"main": of_clip}, world.CLIP)
    template = snapshots / first / "chat_template.jinja"
    template.write_text("{# 1 #}" + template.read_text())
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD],
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert loaded.returncode == 0, loaded.stderr
    found = json.loads(loaded.stdout.splitlines()[-1])
    assert found["commits"] == [latest, first, first]
    assert found["identity"] == f"owner/llava@{first}"
    assert found["template"] == "{# 1 "  # of the first commit, not of the latest
    assert found["folder"] == str(snapshots / first)
    assert found["clip"] == [f"hf-hub:owner/clip@{of_clip}"] * 2


def test_an_error_that_is_none_of_the_hubs_keeps_its_words() -> None:
    assert explain_hub_error(ValueError("bad\nfile"), "owner/name") == "bad"
