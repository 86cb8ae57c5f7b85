"""FaceWorld's speed: everything from drawing the numbers to the picture, on two cores; and the cache, for which no training waits."""
import os

import numba
import pytest

from facelab.faces import FaceWorld

BARS = {64: 100, 128: 60}  # faces a second on two cores


@pytest.mark.skipif((os.cpu_count() or 1) < 2 or numba.config.NUMBA_NUM_THREADS < 2, reason="the bars are for two cores")
@pytest.mark.parametrize("size", BARS)
def test_faces_a_second(benchmark, size):
    world, count = FaceWorld(seed=1), 128
    before = numba.get_num_threads()
    numba.set_num_threads(2)
    try:
        start = iter(range(0, 10**9, count))
        benchmark.pedantic(lambda: world.sample(count, size=size, start=next(start)), rounds=5, warmup_rounds=1)
    finally:
        numba.set_num_threads(before)
    rate = count / benchmark.stats.stats.median
    benchmark.extra_info.update(faces_per_second=rate, load_average=os.getloadavg()[0])
    print(f"\n{size} px: {rate:.0f} faces/s (load average {os.getloadavg()[0]:.1f})")
    assert rate >= BARS[size]


def test_a_cache_is_read_far_faster_than_faces_are_made(benchmark, tmp_path):
    cache = FaceWorld(seed=1).cache(512, 64, tmp_path / "faces")
    batch = list(range(0, 512, 8))
    benchmark.pedantic(lambda: cache[batch], rounds=20, warmup_rounds=2)
    rate = len(batch) / benchmark.stats.stats.median
    benchmark.extra_info.update(faces_per_second=rate)
    print(f"\ncache: {rate:.0f} faces/s at 64 px")
    assert rate >= 20 * BARS[64]
