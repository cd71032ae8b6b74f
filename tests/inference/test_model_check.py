import json
import shutil
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from c3l_ray.errors import PreflightError
from c3l_ray.inference import model_check
from c3l_ray.inference.model_check import (
    TESTED_FAMILIES,
    check_clip,
    check_model,
    choose_reply_format,
    has_linear_attention,
    model_family,
    untested_family_notes,
)
from c3l_ray.scenes import world
from tests.families.checkpoints import FAMILIES


@pytest.fixture
def llava(tmp_path: Path) -> Path:
    return Path(shutil.copytree(world.LLAVA, tmp_path / "llava"))


def test_the_identity_is_the_content_not_the_path(llava: Path) -> None:
    shipped = check_model("--model.name", str(world.LLAVA))
    assert check_model("--model.name", str(llava)) == shipped
    changed = llava.parent / "changed"
    shutil.copytree(llava, changed)
    weights = bytearray((changed / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (changed / "model.safetensors").write_bytes(weights)
    assert check_model("--model.name", str(changed)) != shipped


def test_an_absent_folder(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"--model.name .*/absent: no such folder"):
        check_model("--model.name", str(tmp_path / "absent"))


def test_a_folder_without_a_config(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"no config\.json"):
        check_model("--scorer.name", str(tmp_path))


def test_a_config_that_is_not_json(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(PreflightError, match="cannot be read as a model"):
        check_model("--model.name", str(tmp_path))


@pytest.mark.parametrize("name", ["llava", "a/b/c"])
def test_a_name_that_no_hub_can_have_is_refused_without_asking_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_check, "_read_config", lambda path: pytest.fail("it was read"))
    message = f"--model.name: no local folder '{name}', and hub names have the form OWNER/NAME"
    with pytest.raises(PreflightError, match=message):
        check_model("--model.name", name)


def test_a_name_that_no_hub_has() -> None:
    with pytest.raises(PreflightError, match="nobody/nothing: cannot be read as a model"):
        check_model("--model.name", "nobody/nothing")


def test_a_text_only_model(tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(PreflightError, match=r"a text-only model \(llama\)"):
        check_model("--model.name", str(tmp_path))


def test_a_model_without_weights(llava: Path) -> None:
    (llava / "model.safetensors").unlink()
    with pytest.raises(PreflightError, match="has no weights"):
        check_model("--model.name", str(llava))


def test_a_model_without_a_chat_template(llava: Path) -> None:
    (llava / "chat_template.jinja").unlink()
    with pytest.raises(PreflightError, match="no chat template"):
        check_model("--model.name", str(llava))


@pytest.mark.parametrize(
    ("family", "format_"),
    [("llava", "text"), ("llava_next", "text"), ("qwen2_5_vl", "json"), ("gemma3", "json")],
)
def test_the_family_decides_how_replies_are_written(
    tmp_path: Path, family: str, format_: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    assert choose_reply_format(str(tmp_path)) == format_


def test_the_tested_families_are_those_of_the_tests() -> None:
    assert sorted(TESTED_FAMILIES) == sorted(family.model_type for family in FAMILIES)


def test_layers_of_linear_attention_are_seen(llava: Path) -> None:
    assert not has_linear_attention(str(llava))
    config = json.loads((llava / "config.json").read_text())
    config["text_config"] = {
        "model_type": "qwen3_5_text",
        "num_hidden_layers": 2,
        "layer_types": ["linear_attention", "full_attention"],
    }
    (llava / "config.json").write_text(json.dumps(config))
    assert has_linear_attention(str(llava))


def test_a_family_that_is_not_tested_has_a_note() -> None:
    assert model_family(str(world.LLAVA)) == "llava"
    assert untested_family_notes("owner/name", "llava") == []
    assert untested_family_notes("owner/name", "newvlm") == [
        "owner/name is of family newvlm, which is untested; compare a few answers by eye"
    ]


def test_clip_by_path_name_and_file(tmp_path: Path) -> None:
    assert check_clip(str(world.CLIP), None) == check_clip(str(world.CLIP), "ignored")
    assert check_clip("ViT-B-32", "laion2b_s34b_b79k") == "ViT-B-32:laion2b_s34b_b79k"
    assert check_clip("hf-hub:owner/name", None) == "hf-hub:owner/name"
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"w")
    assert check_clip("ViT-B-32", str(weights)).startswith("ViT-B-32:")


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("/absent/clip", None, "no such folder"),
        ("hf-hub:name", None, "hub names have the form hf-hub:OWNER/NAME"),
        ("ViT-B-33", "x", "neither a local folder nor an architecture of open_clip"),
        ("owner/name", "x", "hub names have the form hf-hub:OWNER/NAME"),
        ("ViT-B-32", None, "needs weights"),
        ("ViT-B-32", "no-such-tag", "nor a tag"),
    ],
)
def test_a_clip_model_that_does_not_exist(name: str, weights: str | None, message: str) -> None:
    with pytest.raises(PreflightError, match=message):
        check_clip(name, weights)


def test_a_clip_folder_without_config_or_weights(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="no open_clip_config"):
        check_clip(str(tmp_path), None)
    (tmp_path / "open_clip_config.json").write_text(json.dumps({}))
    with pytest.raises(PreflightError, match="has no weights"):
        check_clip(str(tmp_path), None)
