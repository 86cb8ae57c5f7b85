"""Made faces pass for faces with dlib's networks: a small sample in every test run, `make bench` measures the full bars."""
import pytest

pytest.importorskip("dlib", reason="the [offline] extra is not installed")
realism = pytest.importorskip("realism")


def test_detectors_find_made_faces_and_their_landmarks():
    found = realism.detection_and_landmarks(60, cnn=20)
    assert found["hog"] >= 0.95 and found["cnn"] >= 0.9, found
    assert found["inner_points"] <= 0.065, found


def test_an_identity_network_tells_made_people_apart():
    told = realism.identity(30)
    assert told["balanced_accuracy"] >= 0.87 and told["same"] < told["different"] - 0.1, told
