"""Records of experiments: every figure stands beside the conditions that it was measured under."""
import json
import time

import torch

from facelab.evaluation import write_metrics


def test_conditions_stand_beside_the_figures(tmp_path):
    path = write_metrics(tmp_path, "trial", profile="cpu", seed=3, began=time.time() - 5, people=7, table={"ours": {"PSNR": 1.5}})
    assert path == tmp_path / "metrics.json"
    found = json.loads(path.read_text())
    assert (found["experiment"], found["profile"], found["seed"], found["people"]) == ("trial", "cpu", 3, 7)
    assert found["table"] == {"ours": {"PSNR": 1.5}} and 5 <= found["seconds"] <= 7
    assert found["versions"]["torch"] == torch.__version__ and f"{torch.get_num_threads()} threads" in found["hardware"]
