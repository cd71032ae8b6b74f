"""Alternatives of turns with a scripted engine: after which tokens, how drawn, and how read."""

import asyncio
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest

from c3l_ray import chat
from c3l_ray.config import GenerateConfig
from c3l_ray.errors import EngineFailure, RefusedRequest
from c3l_ray.inference.engine_protocol import Decoding, GenerationRequest, Reply
from c3l_ray.inference.scripted_engine import ScriptedEngine
from c3l_ray.inference.turn_generator import TurnGenerator
from c3l_ray.methods import alternatives, c3l
from c3l_ray.processors import load_processor
from c3l_ray.scenes import world
from tests.families import tokens
from tests.inference.builders import EncodeImage, MakeConfig, stage_images

QUESTION, DRAFT = "What colour is it?", "It is red."
SAMPLES = (" It is red.", " It is blue.", " It is red. Question: Why? Answer: So.", " It is red.")


class AnswerScript:
    """Writes one turn of each image, and the n-th text to the n-th request for an alternative.

    A correction, which is greedy, gets the text of its own.
    """

    def __init__(self, *texts: str | Exception, finish_reason: str = "stop") -> None:
        self.texts = texts
        self.finish_reason = finish_reason
        self.engine = ScriptedEngine(self.reply_to)
        self.answering: list[GenerationRequest] = []

    def reply_to(self, request: GenerationRequest) -> Reply:
        if request.decoding is None:
            is_json = request.json_schema is not None
            instruction = c3l.FORMAT_REQUESTS["json"] if is_json else ""
            text: str | Exception = c3l.format_reply(QUESTION, DRAFT, instruction)
            return Reply(text=str(text), finish_reason="stop", num_tokens=20)
        if request.decoding.temperature == 0:
            return Reply(text="It is corrected.", finish_reason="stop", num_tokens=3)
        text = self.texts[len(self.answering) % len(self.texts)]
        self.answering.append(request)
        if isinstance(text, Exception):
            raise text
        return Reply(text=text, finish_reason=self.finish_reason, num_tokens=5)


def generate_turn(
    config: GenerateConfig, script: AnswerScript, encoded: EncodeImage
) -> dict[str, Any]:
    async def generate() -> Any:
        table = await TurnGenerator(config, script.engine)(stage_images([encoded()]))
        return table["turns"].to_pylist()

    ((turn,),) = asyncio.run(generate())
    return dict(turn)


def test_a_question_is_asked_again_where_its_answer_begins(
    config: MakeConfig, encoded: EncodeImage
) -> None:
    script = AnswerScript(*SAMPLES)
    asked = config(turns_per_image=1, answers=4, answer_temperature=1.5)
    turn = generate_turn(asked, script, encoded)
    processor = load_processor(str(world.LLAVA))
    prompt = chat.answer_prompt(processor, turn["instruction"], with_image=True)
    expected = chat.tokenize(processor.tokenizer, f"{prompt} Question: {QUESTION} Answer:")
    (planned,) = c3l.plan_requests("image 0", 1)
    for number, request in enumerate(script.answering):
        assert request.prompt_ids == expected
        assert request.image_key == "image 0"
        assert request.seed == alternatives.draw_answer_seed(planned.seed, number)
        assert request.json_schema is None and request.pattern is None
        assert request.decoding == Decoding(temperature=1.5, max_tokens=96, stops=("Question:",))
    assert turn["alternatives"] == [
        {"answer": "It is red.", "num_samples": 3, "status": "ok", "scores": None},
        {"answer": "It is blue.", "num_samples": 1, "status": "ok", "scores": None},
    ]
    assert (turn["question"], turn["answer"], turn["status"]) == (QUESTION, DRAFT, "ok")
    assert turn["num_tokens"] == 20 + 4 * 5


def test_in_json_the_engine_is_held_to_the_rest_of_the_object(
    config: MakeConfig, encoded: EncodeImage
) -> None:
    script = AnswerScript(' "It is \\"red\\"."}', ' "It is')
    asked = config(turns_per_image=1, answers=2, reply_format="json")
    turn = generate_turn(asked, script, encoded)
    processor = load_processor(str(world.LLAVA))
    for request in script.answering:
        text = processor.tokenizer.decode(request.prompt_ids)
        assert text == processor.tokenizer.decode(
            chat.tokenize(
                processor.tokenizer,
                chat.continuation_prompt(
                    processor,
                    turn["instruction"],
                    f'{{"question": "{QUESTION}", "answer":',
                    with_image=True,
                ),
            )
        )
        assert request.pattern == alternatives.JSON_ANSWER_PATTERN and not request.decoding.stops  # type: ignore[union-attr]
    assert [(other["answer"], other["status"]) for other in turn["alternatives"]] == [
        ('It is "red".', "ok"),
        ('"It is', "unparsable"),
    ]


def test_more_answers_begin_with_those_of_fewer(config: MakeConfig, encoded: EncodeImage) -> None:
    seeds = {}
    for num in (2, 5):
        script = AnswerScript(*SAMPLES)
        generate_turn(config(turns_per_image=1, answers=num), script, encoded)
        seeds[num] = [request.seed for request in script.answering]
    assert seeds[5][:2] == seeds[2] and len(set(seeds[5])) == 5


@pytest.mark.parametrize("method", ["c3l", "vigc"])
def test_a_correction_changes_no_alternative(
    config: MakeConfig, encoded: EncodeImage, method: str
) -> None:
    asked = config(turns_per_image=1, answers=4, method=method)
    plain = generate_turn(asked, AnswerScript(*SAMPLES), encoded)
    script = AnswerScript(*SAMPLES)
    corrected = generate_turn(
        config(turns_per_image=1, answers=4, method=method, correct=True), script, encoded
    )
    assert corrected["alternatives"] == plain["alternatives"]
    assert (corrected["draft"], corrected["answer"]) == (DRAFT, "It is corrected.")
    generated = corrected["correction"]["generated_tokens"]
    assert corrected["num_tokens"] == 20 + 4 * 5 + generated


@pytest.mark.parametrize(
    ("text", "finish_reason", "answer", "status"),
    [
        (" It is red.", "stop", "It is red.", "ok"),
        (" It is red. Question:", "stop_string", "It is red.", "ok"),
        (" It is re", "length", "It is re", "truncated"),
        ("  \n", "stop", "", "empty"),
        (" Red. Answer: Blue.", "stop", "Red. Answer: Blue.", "unparsable"),
        (" A <image> of it.", "stop", "A <image> of it.", "unparsable"),
        (" <think>Hm.", "stop", " <think>Hm.", "thought"),
        (" <think>Hm.</think> Red.", "stop", "Red.", "ok"),
    ],
)
def test_a_sample_is_read_by_the_rules_of_a_reply(
    config: MakeConfig,
    encoded: EncodeImage,
    text: str,
    finish_reason: str,
    answer: str,
    status: str,
) -> None:
    script = AnswerScript(text, finish_reason=finish_reason)
    turn = generate_turn(config(turns_per_image=1, answers=1), script, encoded)
    assert turn["alternatives"] == [
        {"answer": answer, "num_samples": 1, "status": status, "scores": None}
    ]
    assert turn["status"] == "ok"


def test_a_refused_sample_is_one_alternative_and_a_dead_engine_none(
    config: MakeConfig, encoded: EncodeImage
) -> None:
    asked = config(turns_per_image=1, answers=3)
    script = AnswerScript(" Red.", RefusedRequest("too long"), " Red.")
    turn = generate_turn(asked, script, encoded)
    assert [(other["answer"], other["num_samples"]) for other in turn["alternatives"]] == [
        ("Red.", 2),
        ("too long", 1),
    ]
    assert turn["alternatives"][1]["status"] == "refused" and turn["num_tokens"] == 20 + 2 * 5
    with pytest.raises(EngineFailure):
        generate_turn(asked, AnswerScript(EngineFailure("gone")), encoded)


def test_only_good_turns_are_asked_again_and_only_where_it_is_wanted(
    config: MakeConfig, encoded: EncodeImage
) -> None:
    script = AnswerScript(" Red.")
    assert generate_turn(config(turns_per_image=1), script, encoded)["alternatives"] is None

    async def generate() -> Any:
        generator = TurnGenerator(config(turns_per_image=2, answers=1), script.engine)
        return (await generator(stage_images([encoded()])))["turns"].to_pylist()

    ((first, second),) = asyncio.run(generate())
    assert (first["status"], second["status"]) == ("ok", "duplicate")
    assert len(first["alternatives"]) == 1 and second["alternatives"] is None
    assert len(script.answering) == 1


BLANKS = "{% for m in messages %}{{ m.role.upper() + ': ' }}{% for c in m.content %}"
TEMPLATE = (
    BLANKS + "{{ '<image>\\n' if c.type == 'image' else c.text + ' ' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
SPECIALS = ("<s>", "</s>", "<image>", "<unk>")
ROLES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
TOKENIZERS = {
    "bytes": lambda: tokens.train_byte_level_tokenizer(SPECIALS, roles=ROLES),
    "pieces": lambda: tokens.train_piece_tokenizer(
        SPECIALS, bos="<s>", roles=ROLES, leading_space=False
    ),
    "pieces with a leading space": lambda: tokens.train_piece_tokenizer(
        SPECIALS, bos="<s>", roles=ROLES, leading_space=True
    ),
}
ANSWERS = ("Yes.", "red", "3 dogs", "Äpfel, 猫", '"stop"', "(a star)", "$5", "two\nlines", "...")


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("reply_format", c3l.FORMAT_REQUESTS)
def test_the_prompts_tokens_are_those_of_a_reply_that_the_model_writes(
    kind: str, reply_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    instruction = c3l.format_instruction("Ask something.", reply_format)
    replies = [c3l.format_reply(QUESTION, answer, instruction) for answer in ANSWERS]
    # So that a quotation mark is merged with a mark after it, as large vocabularies have it.
    monkeypatch.setattr(tokens, "_corpus", lambda: replies)
    tokenizer = TOKENIZERS[kind]()
    template = jinja2.Template(TEMPLATE)
    processor = SimpleNamespace(
        tokenizer=tokenizer,
        apply_chat_template=lambda messages, add_generation_prompt, **_: template.render(
            messages=messages, add_generation_prompt=add_generation_prompt
        ),
    )
    start = c3l.begin_reply(QUESTION, instruction)
    prompt = chat.continuation_prompt(processor, instruction, start, with_image=True)
    ids = chat.tokenize(tokenizer, prompt)
    for reply in replies:
        text, (_, end) = chat.render_turn(processor, instruction, reply, with_image=True)
        whole = chat.tokenize(tokenizer, text[:end])
        assert whole[: len(ids)] == ids
        assert len(whole) > len(ids) and "Answer" not in tokenizer.decode(whole[len(ids) :])
