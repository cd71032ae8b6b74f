"""Ray's store of keys and values, for tests without a cluster."""

import pytest
from ray.experimental import internal_kv


def replace_store(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Puts a dictionary in place of Ray's store, and returns it."""
    content: dict[str, str] = {}
    monkeypatch.setattr(internal_kv, "_internal_kv_get", content.get)
    monkeypatch.setattr(internal_kv, "_internal_kv_put", content.__setitem__)
    monkeypatch.setattr(internal_kv, "_internal_kv_exists", content.__contains__)
    monkeypatch.setattr(internal_kv, "_internal_kv_del", lambda key: content.pop(key, None))
    return content
