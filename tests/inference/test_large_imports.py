import gc

import pytest

from c3l_ray.inference.large_imports import without_collection


def test_garbage_is_collected_after_an_import_as_before_it() -> None:
    for enabled, switch in ((False, gc.disable), (True, gc.enable)):
        switch()
        with pytest.raises(ImportError), without_collection():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled() is enabled
