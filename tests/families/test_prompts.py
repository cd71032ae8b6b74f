"""Models that think aloud: generation, scoring and training continue after the same tokens."""

import asyncio
from typing import Any

import pytest

from c3l_ray import chat
from c3l_ray.inference.engine_protocol import GenerationRequest, Reply
from c3l_ray.inference.scorer_checks import compare_prompts
from c3l_ray.inference.scoring_model import ScoringModel, TurnToScore
from c3l_ray.inference.scripted_engine import ScriptedEngine
from c3l_ray.inference.turn_generator import TurnGenerator
from c3l_ray.model_config import GeneratorModel, ScorerModel
from c3l_ray.train.reading.chat_text import reply_text
from c3l_ray.train.reading.encode import load_processor
from tests.families import chatml, gemma, templates
from tests.families.checkpoints import Family, write_checkpoint
from tests.families.vllm_replies import IMAGES
from tests.inference.builders import EncodeImage, MakeConfig, stage_images

QWEN = Family(name="Qwen3", model_type="qwen3_vl", build=chatml.build_qwen_3_vl, spaced=False)
GEMMA = Family(name="Gemma 4", model_type="gemma4", build=gemma.build_gemma_4, spaced=False)
FAMILIES = {
    "qwen-3.5": (QWEN, templates.QWEN_3_5, "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
    "gemma-4-31b": (GEMMA, templates.GEMMA_4_31B, "model\n<|channel>thought\n<channel|>"),
}
ON = ("enable_thinking=true",)
SHORT_ANSWERS = ("think", "/think", "k", "in", "i", "thought", "channel", "red.")


@pytest.fixture(scope="module", params=FAMILIES)
def thinking_model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str]:
    """A tiny checkpoint whose template thinks aloud, and the end of its prompt without thinking."""
    family, template, prompt_end = FAMILIES[request.param]
    folder = write_checkpoint(family, tmp_path_factory.mktemp("thinking"))
    (folder / "chat_template.jinja").write_text(template)
    return str(folder), prompt_end


def asked_prompt_ids(config: Any, encoded: EncodeImage, question: str) -> list[int]:
    """The tokens after which the engine is asked to answer a question, by VIC's first request."""

    def reply_to(request: GenerationRequest) -> Reply:
        text = f"Question: {question} Answer: A draft." if request.decoding is None else "Red."
        return Reply(text=text, finish_reason="stop", num_tokens=1)

    engine = ScriptedEngine(reply_to)

    async def generate() -> None:
        await TurnGenerator(config, engine)(stage_images([encoded()]))

    asyncio.run(generate())
    return engine.requests[1].prompt_ids


@pytest.mark.parametrize("args", [(), ("enable_thinking=false",)])
def test_all_uses_continue_after_the_same_tokens(
    config: MakeConfig, encoded: EncodeImage, thinking_model: tuple[str, str], args: tuple[str, ...]
) -> None:
    name, prompt_end = thinking_model
    generation = config(
        correct=True,
        turns_per_image=1,
        model=GeneratorModel(name=name, template_args=args),
        scorer=ScorerModel(name=name, dtype="float32", template_args=args),
    )
    asked_ids = asked_prompt_ids(generation, encoded, "What is red?")
    model = ScoringModel(generation.scorer, name)
    tokenizer = model.processor.tokenizer
    assert tokenizer.decode(asked_ids).endswith(prompt_end)
    for answer in SHORT_ANSWERS:
        turn = TurnToScore(image=IMAGES[0], question="What is red?", answer=answer)
        scored = model.tokenize_turn(turn, with_image=True)
        assert scored.ids[: scored.answer_start] == asked_ids
        assert tokenizer.decode(scored.answer_ids) == answer
        learnt = reply_text(load_processor(name, args), "What is red?", answer, target=True)
        learnt_ids, start, _ = chat.tokenize_with_span(tokenizer, learnt.text, learnt.targets[0])
        assert learnt_ids[:start] == asked_ids
    assert compare_prompts(model) == []


def test_with_thinking_a_difference_is_noted(thinking_model: tuple[str, str]) -> None:
    name, _ = thinking_model
    model = ScoringModel(ScorerModel(dtype="float32", template_args=ON), name)
    is_qwen = "qwen" in model.family
    notes = compare_prompts(model)
    # Gemma 4 is asked without an opened thought, and may answer at once.
    assert len(notes) == is_qwen
    assert all("<think>" in note for note in notes)


def test_gemmas_marks_are_kept_in_replies_and_the_thought_is_cut_off(
    config: MakeConfig, encoded: EncodeImage, thinking_model: tuple[str, str]
) -> None:
    """They are special tokens of Gemma 4, which vLLM leaves out of texts; Qwen's are none."""
    name, _ = thinking_model
    marks_are_special = "<|channel>" in chat.special_tokens(load_processor(name))
    thought = "Hm. What else?"
    before = f"<|channel>thought\n{thought}\n<channel|>"
    if not marks_are_special:
        before = f"<think>\n{thought}\n</think>\n\n"

    def reply_to(request: GenerationRequest) -> Reply:
        assert request.keep_special_tokens == marks_are_special
        text = "Question: What is red? Answer: It is."
        if request.decoding is not None:
            text = "It is red." + ("<turn|>" if marks_are_special else "")
        return Reply(text=before + text, finish_reason="stop", num_tokens=1)

    generation = config(correct=True, turns_per_image=1, model=GeneratorModel(name=name))

    async def generate() -> list[dict[str, Any]]:
        generator = TurnGenerator(generation, ScriptedEngine(reply_to))
        table = await generator(stage_images([encoded()]))
        turns: list[dict[str, Any]] = table["turns"].to_pylist()[0]
        return turns

    (turn,) = asyncio.run(generate())
    assert turn["thought"] == thought
    assert (turn["draft"], turn["answer"]) == ("It is.", "It is red.")
    assert turn["correction"]["outcome"] == "complete"
