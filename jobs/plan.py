"""Says what a run of jobs.generate will cost, before it begins.

    python -m jobs.plan --input s3://bucket/shards --output s3://bucket/run \\
        --model.name llava-hf/llava-1.5-7b-hf --pools.generators 8 --pools.scorers 4 \\
        --price-per-hour 2.5 --max-hours 12

Takes the flags of jobs.generate and refuses what it refuses. It lists the
shards, counts images, and runs a few of them through the models. Then it prints
images, turns, speed, hours, GPU-hours, price, bytes and files of the output,
and when the run would end if it were begun now. Each figure has an interval of
95 %: from how the sampled images differ and, where not all shards are counted,
how these differ. What is assumed beside that is listed.

The speed is that of one generator and one scorer on a GPU of this cluster,
times their numbers, without the boot. So a plan can be of more GPUs than there
are, and needs one like them. A larger --sample narrows the intervals.

Nothing stays in --output: a plan works in a folder there, and removes it. Of a
run that has begun it plans the images that are left.

Exit status: 0 planned, 2 refused before the start, 3 the plan is over
--max-hours or --max-price (it is printed all the same), 4 none of the sampled
images can be used, 130 stopped by Ctrl-C, 143 by SIGTERM, 1 any other failure.
"""

import dataclasses
import json

from c3l_ray.workflows.plan import PlanConfig
from jobs.command_line import AFRESH, main


def run(config: PlanConfig) -> None:
    """Prints the plan.

    Raises:
        OverBudget: it is over what the user allows.
    """
    from c3l_ray.planning.cost import check_budget
    from c3l_ray.workflows.plan import plan_generation
    from c3l_ray.workflows.plan_summary import summarize_plan

    plan = plan_generation(config)
    if config.json:
        print(json.dumps(dataclasses.asdict(plan), indent=2), flush=True)
    else:
        print(summarize_plan(plan), flush=True)
    check_budget(plan)


def run_command(program: str = "python -m jobs.plan") -> None:
    main(PlanConfig, run, __doc__, program, again=AFRESH)


if __name__ == "__main__":
    run_command()
