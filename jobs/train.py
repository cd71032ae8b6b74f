"""Tunes a vision-language model on turns, and writes a checkpoint that vLLM
loads.

    python -m jobs.train --input s3://bucket/run --output s3://bucket/tuned \\
        --model.name llava-hf/llava-1.5-7b-hf --workers.num 8 --workers.sharding fsdp

--objective c3l contrasts the turns of each image: it raises the best one by
--labels.by, lowers the others, and learns the likelihood of the best one.
--objective cgvlm aligns the patches of the vision adapter with captions.
--objective vigc teaches a model to write turns and to correct their answers,
from turns of status ok.
--objective conversations fine-tunes a model on a dataset: all turns of an image
in one text, the loss on the replies.
--objective answers learns the best of several answers to one question, with
--answers.pair-weight also against the worst.

All but c3l and answers also read LLaVA's JSON, Parquet and, for captions, tars:

    python -m jobs.train --objective vigc --output s3://bucket/tuned \\
        --input conversation_58k.json detail_23k.json --layout.image-root coco/train2017 \\
        --mixture.kinds detail_23k.json=detail --model.name llava-hf/llava-1.5-7b-hf

Writes model/, with the files and weight names of the model it was tuned from;
measurements.json and tensorboard/, with the losses and speeds; and run.json.

Interrupted jobs resume from the latest checkpoint: run the same command again,
with as many workers as you like. The job runs on the Ray cluster that
RAY_ADDRESS names, or starts one on this machine.

Sources of defaults: [C-com] a community reproduction of C3L, whose own values
are not public; [L] the recipes of LLaVA-1.5; [CG] our reading of CG-VLM;
[V-cfg] the configs of VIGC's authors.

Exit status: 0 finished, 2 refused before the start, 130 stopped by Ctrl-C, 143
by SIGTERM, 1 any other failure. At either signal the steps so far are saved in
a checkpoint; a second one ends the job at once.
"""

from c3l_ray.train.training_config import TrainConfig
from jobs.command_line import main


def run(config: TrainConfig) -> None:
    """Runs the job and prints what it did."""
    from c3l_ray.workflows.summaries import summarize_training
    from c3l_ray.workflows.train import train_model

    print(summarize_training(train_model(config), config.output))


def run_command(program: str = "python -m jobs.train") -> None:
    main(TrainConfig, run, __doc__, program)


if __name__ == "__main__":
    run_command()
