import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from transformers import LlamaConfig, LlamaForCausalLM

from c3l_ray import model_files
from c3l_ray.errors import C3LError, PreflightError
from c3l_ray.inference import model_check
from c3l_ray.inference.model_check import (
    TESTED_FAMILIES,
    CheckedModel,
    check_model,
    check_scorable,
    check_tunable,
    choose_reply_format,
    has_linear_attention,
    inspect_model,
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
    monkeypatch.setattr(model_check, "_read_config", lambda *_: pytest.fail("it was read"))
    message = f"--model.name: no local folder '{name}', and hub names have the form OWNER/NAME"
    with pytest.raises(PreflightError, match=message):
        check_model("--model.name", name)


def test_a_name_that_no_hub_has() -> None:
    with pytest.raises(PreflightError, match="nobody/nothing: cannot be read as a model"):
        check_model("--model.name", "nobody/nothing")


def test_a_model_on_a_storage_that_is_away_is_a_failure_and_no_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same command may succeed later; where a right is missing it may not."""
    url = "http://127.0.0.1:9000"
    failures: list[tuple[Exception, int]] = [
        (EndpointConnectionError(endpoint_url=url), 1),
        (ClientError({"Error": {"Code": "SlowDown"}}, "GetObject"), 1),
        (ClientError({"Error": {"Code": "AccessDenied"}}, "GetObject"), 2),
        (FileNotFoundError("s3://bucket/model: no such folder"), 2),
    ]
    for error, exit_status in failures:

        def fail(_: str, error: Exception = error) -> str:
            raise error

        monkeypatch.setattr(model_check, "resolve_model", fail)
        with pytest.raises(C3LError, match="s3://bucket/model: cannot be") as raised:
            check_model("--model.name", "s3://bucket/model")
        assert raised.value.exit_status == exit_status


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


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.model",
        "merges.txt",
        "modeling_own.py",
        "vocab.tiktoken",
        "preprocessor_config.json",
        "chat_template.jinja",
        "additional_chat_templates/tools.jinja",
    ],
)
def test_whatever_may_change_a_result_is_part_of_the_identity(llava: Path, name: str) -> None:
    model_files.digest_model.cache_clear()
    before = check_model("--model.name", str(llava))
    path = llava / name
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "{}") + " ")
    model_files.digest_model.cache_clear()
    assert check_model("--model.name", str(llava)) != before


def test_what_lies_beside_a_model_is_no_part_of_it(llava: Path) -> None:
    before = check_model("--model.name", str(llava))
    (llava / "README.md").write_text("a model")
    (llava / "checkpoint-7").mkdir()
    (llava / "checkpoint-7" / "model.safetensors").write_bytes(b"")
    model_files.digest_model.cache_clear()
    assert check_model("--model.name", str(llava)) == before


def test_an_adapter_is_no_model_even_where_its_folder_has_a_config(llava: Path) -> None:
    (llava / "adapter_config.json").write_text("{}")
    for missing in ("README.md", "config.json"):
        (llava / missing).unlink(missing_ok=True)
        with pytest.raises(PreflightError, match=r"is an adapter of peft.* Merge it into its base"):
            check_model("--model.name", str(llava))


def test_a_folder_has_no_revisions(llava: Path) -> None:
    with pytest.raises(PreflightError, match=r"no revisions; leave out --scorer\.revision v1"):
        inspect_model("--scorer.name", str(llava), revision="v1")


OWN_CODE = """
from transformers import LlavaConfig

class OwnConfig(LlavaConfig):
    model_type = "own_vlm"
"""


def test_code_of_the_models_own_runs_only_on_request(llava: Path) -> None:
    content = json.loads((llava / "config.json").read_text())
    own = {"model_type": "own_vlm", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (llava / "config.json").write_text(json.dumps({**content, **own}))
    (llava / "own.py").write_text(OWN_CODE)
    with pytest.raises(PreflightError, match=r"code of its own: --model\.trust-remote-code runs"):
        inspect_model("--model.name", str(llava))
    model = inspect_model("--model.name", str(llava), trust_remote_code=True)
    assert not model.can_score
    with pytest.raises(PreflightError, match=r"does not score\. Name another one as --scorer"):
        check_scorable("--model.name", model)


def test_a_tokenizer_alone_is_no_processor(llava: Path) -> None:
    """AutoProcessor gives it for a model of its own code without a class of a processor."""
    content = json.loads((llava / "config.json").read_text())
    own = {"model_type": "own_vlm", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (llava / "config.json").write_text(json.dumps({**content, **own}))
    (llava / "own.py").write_text(OWN_CODE)
    (llava / "processor_config.json").unlink()
    settings = json.loads((llava / "tokenizer_config.json").read_text())
    del settings["processor_class"]
    (llava / "tokenizer_config.json").write_text(json.dumps(settings))
    message = r"its processor \(\w*Tokenizer\w*\) has no tokenizer: .* with -hf in its name"
    with pytest.raises(PreflightError, match=message):
        inspect_model("--model.name", str(llava), trust_remote_code=True)


@pytest.mark.parametrize(
    ("settings", "method"),
    [
        ({"quant_method": "awq", "bits": 4}, "awq"),
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "fp8"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "compressed-tensors"),
        ({"quant_algo": "NVFP4"}, "NVFP4"),
    ],
)
def test_quantized_weights_neither_score_nor_learn(
    llava: Path, settings: dict[str, Any], method: str
) -> None:
    content = json.loads((llava / "config.json").read_text())
    (llava / "config.json").write_text(json.dumps({**content, "quantization_config": settings}))
    model = inspect_model("--model.name", str(llava))
    with pytest.raises(PreflightError, match=rf"is quantized \({method}\): it generates"):
        check_scorable("--model.name", model)
    with pytest.raises(PreflightError, match=rf"is quantized \({method}\) and cannot be tuned"):
        check_tunable("--model.name", str(llava))
    check_scorable("--model.name", inspect_model("--model.name", str(world.LLAVA)))
    check_tunable("--model.name", str(world.LLAVA))


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct-AWQ", "Qwen/Qwen2.5-VL-7B-Instruct"),
        ("o/InternVL3-8B-GPTQ-Int4", "o/InternVL3-8B"),
        ("Qwen/Qwen3-VL-8B-Instruct-FP8", "Qwen/Qwen3-VL-8B-Instruct"),
        ("/models_fp8/llava-awq", "/models_fp8/llava"),
        ("RedHatAI/Qwen2.5-VL-7B-Instruct-quantized.w8a8", "RedHatAI/Qwen2.5-VL-7B-Instruct"),
    ],
)
def test_the_unquantized_checkpoint_is_guessed_from_the_name(name: str, original: str) -> None:
    model = CheckedModel(
        name=name,
        identity="i",
        commit="c",
        dtype=None,
        quantization="awq",
        uses_date=False,
        can_score=True,
    )
    with pytest.raises(PreflightError, match=f"such as {original}$"):
        check_scorable("--model.name", model)
