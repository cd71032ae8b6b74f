"""How the shipped tiny models are made: `python -m c3l_ray.scenes.train`."""

import os

# One thread a process, also in what torch starts on its import; two processes train side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
