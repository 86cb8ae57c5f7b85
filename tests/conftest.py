"""One thread a worker when tests run in parallel, and the mark of tests that need a GPU."""
import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch and numba are imported; notebook kernels inherit it
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def pytest_collection_modifyitems(items):
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device; `make gpu` runs it"))
