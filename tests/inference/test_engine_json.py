"""JSON from the real engine: a model of random weights that can spell, held to a schema."""

import asyncio
import dataclasses
import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, LlavaForConditionalGeneration, LlavaProcessor
from transformers import PreTrainedTokenizerFast as Fast

from c3l_ray import chat
from c3l_ray.inference.engine import Engine
from c3l_ray.inference.engine_protocol import Decoding, GenerationRequest
from c3l_ray.methods import alternatives, c3l
from c3l_ray.model_config import GeneratorModel, Sampling
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.render import render_scene

QUESTION = "What is it?"
SPECIALS = ["<pad>", "<s>", "</s>", "<unk>", "<image>"]


@pytest.fixture
def spelling_model(tmp_path: Path) -> Path:
    """The shipped model's architecture, with one token a byte and untrained weights."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIALS, *alphabet])}
    inner = Tokenizer(models.BPE(vocabulary, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = Fast(
        tokenizer_object=inner,
        **{
            f"{name}_token": f"{text}"
            for name, text in zip(("pad", "bos", "eos", "unk"), SPECIALS, strict=False)
        },
        extra_special_tokens={"image_token": "<image>"},
    )
    shipped = LlavaProcessor.from_pretrained(world.LLAVA)
    LlavaProcessor(
        image_processor=shipped.image_processor,
        tokenizer=tokenizer,
        patch_size=shipped.patch_size,
        vision_feature_select_strategy=shipped.vision_feature_select_strategy,
        num_additional_image_tokens=1,
        chat_template=shipped.chat_template,
    ).save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(world.LLAVA)
    config.text_config.vocab_size = len(tokenizer)
    config.text_config.max_position_embeddings = 1024
    config.image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).save_pretrained(tmp_path)
    _use_shipped_names(tmp_path / "model.safetensors")
    return tmp_path


def _use_shipped_names(file: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = {
        name.replace("vision_tower.", "vision_tower.vision_model.").replace(
            "vision_model.vision_model.", "vision_model."
        ): tensor
        for name, tensor in load_file(file).items()
    }
    save_file(state, file, metadata={"format": "pt"})


def test_a_reply_under_the_schema_is_json_that_parses(spelling_model: Path) -> None:
    # The product's schema, with short texts: random weights would never end a text.
    short = {"type": "string", "minLength": 1, "maxLength": 8, "pattern": "^[a-z]+$"}
    schema = {**c3l.REPLY_JSON_SCHEMA, "properties": {"question": short, "answer": short}}

    async def ask() -> tuple[list[str], list[str]]:
        model = GeneratorModel(name=str(spelling_model), dtype="float32", max_len=512, max_seqs=8)
        engine = Engine(model, Sampling(max_tokens=200, temperature=1.0))
        processor = LlavaProcessor.from_pretrained(spelling_model)
        prompt = chat.answer_prompt(processor, c3l.FORMAT_REQUESTS["json"], with_image=True)
        requests = [
            GenerationRequest(
                prompt_ids=chat.tokenize(processor.tokenizer, prompt),
                image=render_scene(draw_scene(1)),
                image_key="1",
                seed=seed,
                json_schema=schema,
            )
            for seed in range(4)
        ]
        replies = await asyncio.gather(*map(engine.ask, requests))
        instruction = c3l.format_instruction("Ask.", "json")
        continuing = chat.continuation_prompt(
            processor, instruction, c3l.begin_reply(QUESTION, instruction), with_image=True
        )
        # Bounded, as the texts above; most of what random weights write must be escaped.
        pattern = alternatives.JSON_ANSWER_PATTERN.replace("*", "{1,8}")
        requests = [
            dataclasses.replace(
                request,
                prompt_ids=chat.tokenize(processor.tokenizer, continuing),
                json_schema=None,
                pattern=pattern,
                decoding=Decoding(temperature=1.0, max_tokens=200),
            )
            for request in requests
        ]
        rests = await asyncio.gather(*map(engine.ask, requests))
        engine.close()
        return [reply.text for reply in replies], [reply.text for reply in rests]

    texts, rests = asyncio.run(ask())
    for rest in rests:
        pair = c3l.parse_reply(f'{{"question": "{QUESTION}", "answer":{rest}')
        assert pair is not None and pair[0] == QUESTION
    assert len(set(rests)) == 4
    for text in texts:
        content = json.loads(text)
        assert set(content) == {"question", "answer"}
        assert c3l.parse_reply(text) == (content["question"], content["answer"])
