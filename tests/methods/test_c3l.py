import time
from collections import Counter
from json import dumps

import pytest

from c3l_ray.methods import c3l


@pytest.mark.parametrize(
    ("reply", "pair"),
    [
        ("Question: Is it red? Answer: Yes.", ("Is it red?", "Yes.")),
        (" question:Is it red?\nanswer: Yes.\n", ("Is it red?", "Yes.")),
        ("**Question:** Is it red?\n\n**Answer:** Yes,\nit is.", ("Is it red?", "Yes,\nit is.")),
        ("Question: Is it red? Answer:", ("Is it red?", "")),
        ("Here is one:\nQuestion: A?\nAnswer: B.", ("A?", "B.")),
        ("1. **Question:** A?\n**Answer:** B.", ("A?", "B.")),
        ("Question: A? Answer: To answer your question: B.", ("A?", "To answer your question: B.")),
        ("It is red.", None),
        ("Question: Is it red?", None),
        ("Question: Answer: Yes.", None),
        ("Question: Question: Is it? Answer: Yes.", None),
        ("Question: A? Answer: B. Question: C? Answer: D.", ("A?", "B.")),
        ("1. Question: A?\n   Answer: B.\n2. Question: C?\n   Answer: D.", ("A?", "B.")),
        ("Question 1: A?\nAnswer 1: B.\n\nQuestion 2: C?\nAnswer 2: D.", ("A?", "B.")),
        ("Question: A? Answer: B. Answer: C.", None),
        ("Question: A? Question: B? Answer: C.", None),
        ("Answer: B.", None),
        ("Q: A?\nA: B.", ("A?", "B.")),
        ("### Question: A?\n### Answer: B.", ("A?", "B.")),
        ("- **Question**: A?\n- **Answer**: B.", ("A?", "B.")),
        ("**Question:** *A?*\n**Answer:** *B.*", ("A?", "B.")),
        ("What is it? It is a cat.", ("What is it?", "It is a cat.")),
        ("What is it?\nIt is a cat.\nIt sleeps.", ("What is it?", "It is a cat.\nIt sleeps.")),
        ("Question: What is it? It is a cat.", ("What is it?", "It is a cat.")),
        ("Frage: Was ist das?\nAntwort: Eine Katze.", ("Was ist das?", "Eine Katze.")),
        ("Pregunta: ¿Qué es?\nRespuesta: Un gato.", ("¿Qué es?", "Un gato.")),
        ("问题：这是什么？\n答案：一只猫。", ("这是什么？", "一只猫。")),
        ("質問: これは何ですか？\n答え: 猫です。", ("これは何ですか？", "猫です。")),
        ('{"question": "A?", "answer": "B."}', ("A?", "B.")),
        ('```json\n{"question": "A?", "answer": "B."}\n```', ("A?", "B.")),
        ('{"question": "A?"}', None),
        ('{"question": "A?", "answer": 3}', None),
        ('{"question": "A?", "answer": "B', None),
        ('{"question": "", "answer": "B"}', None),
        ("", None),
    ],
)
def test_a_reply_is_parsed(reply: str, pair: tuple[str, str] | None) -> None:
    assert c3l.parse_reply(reply) == pair


@pytest.mark.parametrize("blank", [" ", "\n", "\t", "*", "1. ", "Question "])
def test_parsing_is_linear_in_what_a_model_can_ramble(blank: str) -> None:
    for text in (
        f"Question:{blank * 20_000}",
        f"{blank * 20_000}Answer:",
        f"Question: a{blank * 20_000}",
    ):
        started = time.process_time()
        c3l.parse_reply(text)
        assert time.process_time() - started < 1  # it was hours when it went wrong


def test_requests_depend_on_the_image_and_the_seed_alone() -> None:
    assert c3l.plan_requests("a", 5) == c3l.plan_requests("a", 5)
    assert c3l.plan_requests("a", 5) != c3l.plan_requests("b", 5)
    assert c3l.plan_requests("a", 7)[:5] == c3l.plan_requests("a", 5)
    assert c3l.plan_requests("a", 5, seed=3) == c3l.plan_requests("a", 5, seed=3)


def test_another_seed_has_other_wordings_and_other_sampling_seeds() -> None:
    images = [str(i) for i in range(100)]
    by_seed = [
        [request for image in images for request in c3l.plan_requests(image, 5, seed=seed)]
        for seed in range(3)
    ]
    assert len({request.seed for requests in by_seed for request in requests}) == 3 * 500
    pairs = list(zip(by_seed[0], by_seed[1], strict=True))
    assert sum(first.instruction == second.instruction for first, second in pairs) < 50


def test_five_turns_are_one_of_each_kind() -> None:
    for image in map(str, range(50)):
        assert {request.kind for request in c3l.plan_requests(image, 5)} == set(c3l.KINDS)


@pytest.mark.parametrize("num_turns", [1, 3, 7])
def test_kinds_are_spread_evenly_over_images(num_turns: int) -> None:
    kinds = Counter(
        request.kind for i in range(2000) for request in c3l.plan_requests(f"image {i}", num_turns)
    )
    assert max(kinds.values()) < 1.2 * min(kinds.values())


def test_wordings_and_seeds_of_an_image_differ() -> None:
    requests = c3l.plan_requests("a", 5 * 8)
    assert len({request.instruction for request in requests}) == 40
    assert len({request.seed for request in requests}) == 40
    assert all(0 <= request.seed < 2**31 for request in requests)


def test_a_format_changes_the_wording_alone() -> None:
    requests = zip(c3l.plan_requests("a", 5), c3l.plan_requests("a", 5, "json"), strict=True)
    for text, json in requests:
        assert (text.kind, text.seed) == (json.kind, json.seed)
        assert json.instruction.endswith(c3l.FORMAT_REQUESTS["json"])


def test_every_wording_asks_for_the_format() -> None:
    for i in range(100):
        for request in c3l.plan_requests(str(i), 5):
            assert request.instruction.endswith(c3l.FORMAT_REQUESTS["text"])


@pytest.mark.parametrize("answer", ["", "red", 'It is "red",\nand large.', "Answer: it is"])
@pytest.mark.parametrize("question", ["What is red?", 'What is "red"? Answer: what?'])
def test_the_answer_stands_at_the_end_of_a_reply(question: str, answer: str) -> None:
    text, structured = (c3l.format_instruction("Ask.", name) for name in ("text", "json"))
    start = c3l.find_answer_start(question, text)
    assert c3l.format_reply(question, answer, text)[start:] == answer
    start = c3l.find_answer_start(question, structured)
    reply = c3l.format_reply(question, answer, structured)
    assert reply[start:] == dumps(answer)[1:] + "}" and reply[start - 1] == '"'
