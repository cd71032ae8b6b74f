"""How the shipped tiny models are trained: `python -m c3l_ray.scenes.make_weights`."""
