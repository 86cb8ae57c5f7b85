"""The bars of realism at full size: 500 faces, 100 people."""
import pytest

pytest.importorskip("dlib", reason="the [offline] extra is not installed")
import realism


@pytest.mark.timeout(3000)
def test_detection_and_landmarks(benchmark):
    found = benchmark.pedantic(realism.detection_and_landmarks, (500,), {"seed": 1}, rounds=1)
    benchmark.extra_info.update(found)
    print(found)
    assert found["hog"] >= 0.98 and found["cnn"] >= 0.95 and found["inner_points"] <= 0.06


@pytest.mark.timeout(3000)
def test_identity(benchmark):
    told = benchmark.pedantic(realism.identity, (102, 5), rounds=1)  # each shot draws its person: a few of 102 are never drawn
    benchmark.extra_info.update(told)
    print(told)
    assert told["people"] >= 100 and told["balanced_accuracy"] >= 0.9
