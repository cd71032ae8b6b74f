"""Lets a CUDA build of torchvision import beside a CPU build of torch.

PyTorch's CPU index has a matching torchvision; PyPI has only the CUDA build, whose compiled
operators do not load beside `torch+cpu`, and importing it then fails for want of two operator
schemas. Nothing here uses those operators, so declaring them is enough. The set-up copies this file
into the environment's site-packages beside a `.pth` line that imports it, so that every process gets
it: Ray's workers and vLLM's children too. Where torchvision is whole, it does nothing.
"""

import importlib.abc
import importlib.util
import sys

SCHEMAS = {
    name: "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms")
}
LIBRARY = []  # torch drops the definitions of a library object that is garbage-collected


class DeclareBeforeTorchvision(importlib.abc.MetaPathFinder):
    """Declares the two operators at the first `import torchvision`, then steps aside."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "torchvision":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("torchvision")
        if spec is not None and spec.origin is not None:
            self.declare(spec)
        return spec

    def declare(self, spec):
        import glob
        import os

        import torch

        try:
            for compiled in glob.glob(os.path.join(os.path.dirname(spec.origin), "_C*.so")):
                torch.ops.load_library(compiled)
        except OSError:
            pass
        missing = [op for op in SCHEMAS if not hasattr(torch.ops.torchvision, op)]
        if missing:
            library = torch.library.Library("torchvision", "FRAGMENT")
            LIBRARY.append(library)
            for op in missing:
                library.define(op + SCHEMAS[op])


sys.meta_path.insert(0, DeclareBeforeTorchvision())
