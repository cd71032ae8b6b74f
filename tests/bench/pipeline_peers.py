"""The other arms of `tests.bench.pipeline`: `python -m tests.bench.pipeline_peers ARM FOLDER`.

- bare: vLLM's offline loop with all requests in it, images decoded before: the limit.
- score: packed scoring and CLIP in one process, images decoded before: the limit of scoring.
- ray: Ray Data as tutorials show it, a blocking `LLM.generate` for each batch.
- hf: transformers' `generate`, batch by batch, as the papers' own code.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from PIL import Image

from c3l_ray import chat
from c3l_ray.config import INSTRUCTIONS
from c3l_ray.images import decode_image
from c3l_ray.methods import c3l
from c3l_ray.model_config import ClipModel, ScorerModel
from c3l_ray.processors import load_processor
from c3l_ray.scenes import world
from tests.bench.pipeline_input import draw_true_turns
from tests.bench.pipeline_work import Setting, write_events

MAX_PIXELS = 1_048_576


def load_llm(setting: Setting) -> Any:
    """vLLM's offline class with the settings of our engine."""
    steps: dict[str, Any] = {"max_num_batched_tokens": setting.step_tokens}
    if not setting.on_gpu:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # before vLLM is imported
        steps |= {"enable_chunked_prefill": False, "enforce_eager": True}
    from vllm import LLM

    return LLM(
        model=setting.model,
        dtype=setting.dtype,
        max_model_len=setting.max_len,
        max_num_seqs=setting.max_seqs,
        gpu_memory_utilization=0.9,
        limit_mm_per_prompt={"image": 1, "video": 0, "audio": 0},
        mm_processor_cache_gb=1,
        **steps,
    )


def plan(
    setting: Setting, processor: Any, image_id: str, image: Image.Image
) -> list[tuple[dict[str, Any], int]]:
    """vLLM's prompts about an image, and the seed of each: those of jobs.generate."""
    requests = c3l.plan_requests(
        image_id, setting.turns, setting.reply_format, INSTRUCTIONS["c3l"], seed=0
    )
    planned = []
    for request in requests:
        prompt = chat.answer_prompt(processor, request.instruction, with_image=True)
        content = {
            "prompt_token_ids": chat.tokenize(processor.tokenizer, prompt),
            "multi_modal_data": {"image": image},
            "multi_modal_uuids": {"image": image_id},
        }
        planned.append((content, request.seed))
    return planned


def sampling(setting: Setting, seed: int) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=setting.temperature,
        max_tokens=setting.max_tokens,
        seed=seed,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def read_images(setting: Setting) -> list[tuple[str, Image.Image]]:
    rows = pq.read_table(setting.requests).to_pylist()
    return [(row["image_id"], decode_image(row["image"], MAX_PIXELS)) for row in rows]


def run_bare(setting: Setting, folder: Path) -> None:
    processor = load_processor(setting.model)
    llm, images = load_llm(setting), read_images(setting)
    prompts = [plan(setting, processor, image_id, image) for image_id, image in images]
    warm_up(llm, setting, processor)
    begin, done, tokens, prompt_tokens = time.time(), [], 0, 0
    left = {number: len(of_image) for number, of_image in enumerate(prompts)}
    for number, of_image in enumerate(prompts):
        for place, (prompt, seed) in enumerate(of_image):
            llm.llm_engine.add_request(f"{number} {place}", prompt, sampling(setting, seed))
    handed = time.time()
    while llm.llm_engine.has_unfinished_requests():
        for output in llm.llm_engine.step():
            if output.finished:
                number = int(output.request_id.split()[0])
                tokens += len(output.outputs[0].token_ids)
                prompt_tokens += len(output.prompt_token_ids)
                left[number] -= 1
                if not left[number]:
                    done.append((time.time(), 1))
    write_events(
        folder,
        "bare",
        begin=begin,
        done=done,
        handed=handed,
        prepares_beside=setting.on_gpu,  # vLLM's engine is a process of its own there
        tokens=tokens,
        prompt_tokens=prompt_tokens,
    )


def warm_up(llm: Any, setting: Setting, processor: Any) -> None:
    blank = Image.new("RGB", (64, 64))
    ((prompt, seed), *_) = plan(setting, processor, "warm-up", blank)
    llm.generate([prompt], [sampling(setting, seed)], use_tqdm=False)


class BlockingBatches:
    """An actor of Ray Data that generates a batch, and takes the next when all of it is done."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.processor = setting, load_processor(setting.model)
        self.llm = load_llm(setting)
        warm_up(self.llm, setting, self.processor)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        begin = time.time()
        prompts, params = [], []
        for image_id, data in zip(batch["image_id"], batch["image"], strict=True):
            image = decode_image(data, MAX_PIXELS)
            for prompt, seed in plan(self.setting, self.processor, str(image_id), image):
                prompts.append(prompt)
                params.append(sampling(self.setting, seed))
        outputs = self.llm.generate(prompts, params, use_tqdm=False)
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        num_rows, end = len(batch["image_id"]), time.time()
        shares = [tokens, *[0] * (num_rows - 1)]
        return {"begin": [begin] * num_rows, "end": [end] * num_rows, "tokens": shares}


def run_ray(setting: Setting, folder: Path) -> None:
    os.environ["RAY_AUTH_MODE"] = "disabled"  # before Ray is imported
    import ray

    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.read_parquet(setting.requests, override_num_blocks=4).map_batches(
        BlockingBatches,
        fn_constructor_args=[setting],
        batch_size=setting.batch_size,
        compute=ray.data.ActorPoolStrategy(size=1),
        num_gpus=1 if setting.on_gpu else 0,
    )
    dataset.write_parquet(str(folder / "ray-output"))
    rows = pq.read_table(folder / "ray-output").to_pylist()
    done = sorted((row["end"], 1) for row in rows)
    begin = min(row["begin"] for row in rows)
    tokens = sum(row["tokens"] for row in rows)
    write_events(folder, "ray", begin=begin, done=done, tokens=tokens)


def run_hf(setting: Setting, folder: Path) -> None:
    from transformers import AutoModelForImageTextToText

    torch.set_num_threads(1)
    device = "cuda" if setting.on_gpu else "cpu"
    model: Any = AutoModelForImageTextToText.from_pretrained(setting.model, dtype=setting.dtype)
    model = model.to(device).eval()
    processor = load_processor(setting.model)
    end_ids = list_end_ids(model.generation_config)
    if processor.tokenizer.pad_token_id is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    torch.manual_seed(0)
    rows = pq.read_table(setting.requests).to_pylist()
    begin, done, tokens = time.time(), [], 0
    for first in range(0, len(rows), setting.batch_size):
        batch = rows[first : first + setting.batch_size]
        texts, images = [], []
        for row in batch:
            image = decode_image(row["image"], MAX_PIXELS)
            for request in c3l.plan_requests(row["image_id"], setting.turns, setting.reply_format):
                texts.append(chat.answer_prompt(processor, request.instruction, with_image=True))
                images.append([image])
        inputs = processor(
            text=texts,
            images=images,
            padding=True,
            padding_side="left",
            return_tensors="pt",
            add_special_tokens=not chat.has_bos(processor.tokenizer, texts[0]),
        ).to(device)
        with torch.inference_mode():
            ids = model.generate(
                **inputs,
                do_sample=setting.temperature > 0,
                temperature=setting.temperature or None,
                # As vLLM samples, whatever the checkpoint's own defaults or the library's are.
                top_k=0,
                top_p=1.0,
                repetition_penalty=1.0,
                max_new_tokens=setting.max_tokens,
                pad_token_id=processor.tokenizer.pad_token_id,
            )
        tokens += count_tokens(ids[:, inputs["input_ids"].shape[1] :], end_ids)
        done.append((time.time(), len(batch)))
    write_events(folder, "hf", begin=begin, done=done, tokens=tokens)


def list_end_ids(generation_config: Any) -> list[int]:
    """The tokens that end a reply, as a checkpoint's generation_config.json names them."""
    end_ids = generation_config.eos_token_id
    return end_ids if isinstance(end_ids, list) else [] if end_ids is None else [end_ids]


def count_tokens(replies_BL: torch.Tensor, end_ids: list[int]) -> int:
    """The tokens of replies [B, L], each with the one that ends it and without what follows."""
    is_end_BL = torch.isin(replies_BL, torch.tensor(end_ids, device=replies_BL.device))
    ended_before_BL = is_end_BL.cumsum(dim=1) - is_end_BL.long() > 0
    return int((~ended_before_BL).sum())


def run_score(setting: Setting, folder: Path) -> None:
    """Scores the turns of our own unscored run, unit by unit, in memory before the clock starts."""
    from c3l_ray.inference.clip_scorer import ClipScorer
    from c3l_ray.inference.packed_scorer import PackedScorer
    from c3l_ray.inference.score_targets import find_targets
    from c3l_ray.inference.scoring_model import ScoringModel

    torch.set_num_threads(1)
    model = ScoringModel(ScorerModel(dtype=setting.dtype), setting.model)  # type: ignore[arg-type]
    scorer, clip = PackedScorer(model), ClipScorer(ClipModel(name=str(world.CLIP), weights=None))
    units = []
    for file in sorted((folder / "ours" / "records").glob("*.parquet")):
        rows = pq.read_table(file).to_pylist()
        for row in rows if setting.draws_turns else []:
            draw_true_turns(row["turns"], int(row["key"]))
        units.append([(row["turns"], decode_image(row["image"], MAX_PIXELS)) for row in rows])
    begin, done = time.time(), []
    for unit in units:
        turns = [
            target.to_score
            for turns, image in unit
            for target in find_targets(model, 0, turns, image, None)
        ]
        if turns:
            scorer.measure(turns)
            texts = [f"{turn.question} {turn.answer}" for turn in turns]
            clip.cosines([turn.image for turn in turns], texts)
        done.append((time.time(), len(unit)))
    write_events(folder, "score", begin=begin, done=done, tokens=0)


ARMS = {"bare": run_bare, "ray": run_ray, "hf": run_hf, "score": run_score}

if __name__ == "__main__":
    ARMS[sys.argv[1]](Setting.read(Path(sys.argv[2])), Path(sys.argv[2]))
