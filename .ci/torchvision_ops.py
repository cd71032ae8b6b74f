"""Lets a CUDA build of torchvision import beside a CPU build of torch.

PyTorch's CPU index has a torchvision to match; PyPI's is a CUDA build whose compiled operators do
not load beside `torch+cpu`, and importing it then fails for want of two operator schemas. Nothing
here calls those operators, so declaring them at the first `import torchvision` is enough. The
set-up installs this only where torchvision does not import, with a `.pth` line so that every
process gets it, Ray's workers and vLLM's children included.
"""

import importlib.abc
import sys

LIBRARIES = []  # torch takes the schemas back when their library object is collected


class DeclareOperators(importlib.abc.MetaPathFinder):
    """Finds nothing: sees torchvision's import coming, declares what it lacks, and steps aside."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            import torch

            library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                library.define(
                    f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )
            LIBRARIES.append(library)
        return None


sys.meta_path.insert(0, DeclareOperators())
