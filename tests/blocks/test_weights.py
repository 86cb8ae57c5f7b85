"""Weight files: what was saved comes back, whole or with an error that says what to do, and no code in a file is run."""
import json
import pickle
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from facelab.blocks import load_weights, save_weights, shipped, weights
from facelab.core import AssetError


@dataclass(frozen=True)
class Config:
    width: int = 4
    levels: tuple[float, ...] = (0.1, 0.2)


class Network(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, config.width))
        self.norm = nn.BatchNorm1d(config.width)  # its count is an integer

    def forward(self, x):
        return self.norm(self.layer(x))


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = Network(Config(width=5, levels=(0.5,)))
    network(torch.randn(8, 3))  # moves the statistics
    return network.eval()


def test_a_network_comes_back_in_half_precision(network, tmp_path):
    path = tmp_path / "deep" / "w.safetensors"
    save_weights(network, path, {"seed": 3, "psnr": 21.5})
    again = load_weights(Network, Config, path)
    assert again.config == network.config and isinstance(again.config.levels, tuple)
    assert not again.training
    for name, value in network.state_dict().items():
        found = again.state_dict()[name]
        assert found.dtype == value.dtype
        assert torch.equal(found, value.half().float() if value.is_floating_point() else value), name
    x = torch.randn(4, 3)
    torch.testing.assert_close(again(x), network(x), rtol=1e-2, atol=1e-2)
    assert weights.made(path) == {"seed": 3, "psnr": 21.5}
    assert [p.name for p in path.parent.iterdir()] == ["w.safetensors"]


def test_a_number_too_large_for_half_precision_is_kept(network, tmp_path):
    path = tmp_path / "w.safetensors"
    network.norm.running_var[2] = 1e6
    save_weights(network, path, {})
    again = load_weights(Network, Config, path)
    assert torch.equal(again.norm.running_var, network.norm.running_var)
    assert torch.equal(again.norm.running_mean, network.norm.running_mean.half().float())  # the others stay small


def test_a_write_that_fails_leaves_the_old_file(network, tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    save_weights(network, path, {"run": 1})
    monkeypatch.setattr(weights.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError):
        save_weights(network, path, {"run": 2})
    assert weights.made(path) == {"run": 1}


def test_missing_truncated_foreign_and_other_files_are_named(network, tmp_path):
    path, readers = tmp_path / "w.safetensors", [partial(load_weights, Network, Config), weights.made]
    for read in readers:
        with pytest.raises(AssetError, match=f"no weights at {path}.*make weights"):
            read(path)
    save_weights(network, path, {})
    whole = path.read_bytes()
    tensors = {name: value.clone() for name, value in network.state_dict().items()}
    contents = {
        "empty": b"",
        "header cut": whole[:20],
        "tensors cut": whole[:-9],
        "noise": bytes(range(256)) * 40,
        "pickle": pickle.dumps({"a": 1}),
    }
    for content in contents.values():
        path.write_bytes(content)
        for read in readers:
            with pytest.raises(AssetError, match=f"{path} is damaged"):
                read(path)
    configs = [None, {"config": json.dumps({"width": 6})}, {"config": json.dumps({"depth": 6})}, {"config": "{"}, {"config": "[]"}]
    for metadata in configs:  # no configuration; another width; another version's; not JSON; not a mapping
        save_file(tensors, path, metadata=metadata)
        for read in readers:
            with pytest.raises(AssetError, match="another version"):
                read(path)


def test_a_file_of_python_objects_is_not_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    torch.save(Trap(), tmp_path / "w.safetensors")
    with pytest.raises(AssetError):
        load_weights(Network, Config, tmp_path / "w.safetensors")
    assert not (tmp_path / "ran").exists()


def test_shipped_files_lie_in_the_package():
    assert shipped("features").is_file() and shipped("features").parent.name == "weights"
