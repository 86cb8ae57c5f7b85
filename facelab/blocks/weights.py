"""Weight files: safetensors in half precision, with the configuration that rebuilds the network in their header."""
from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from facelab.core import WEIGHTS, AssetError

M = TypeVar("M", bound=nn.Module)


def save_weights(model: nn.Module, path: str | Path, made: Mapping[str, Any]) -> None:
    """Writes ``model.state_dict()`` and ``model.config``, whole or not at all.

    Numbers become float16; a tensor with one that float16 cannot hold (above 65504) stays float32, and integers stay what they are.

    Args:
        model: has ``config``, a dataclass of plain values.
        path: ``….safetensors``; its folder is made.
        made: how it was trained (seed, steps, data, hardware, measured quality): plain values, kept in the header.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: _small(value.detach().cpu()).contiguous() for name, value in model.state_dict().items()}
    header = {"config": json.dumps(asdict(model.config)), "made": json.dumps(dict(made))}
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    save_file(tensors, temporary, metadata=header)
    os.replace(temporary, path)


def load_weights(network: type[M], config: type, path: str | Path) -> M:
    """The network that :func:`save_weights` wrote, on the CPU, in evaluation mode, float32.

    Raises:
        AssetError: the file is missing, truncated, or was written for another configuration of the network.
    """
    with _opened(path) as file:
        settings = json.loads((file.metadata() or {})["config"])
        settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
        model = network(config(**settings))
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        model.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in tensors.items()})
    return model.eval()


def shipped(name: str) -> Path:
    """Where the package keeps the weights called ``name``."""
    return WEIGHTS / f"{name}.safetensors"


def made(path: str | Path) -> dict[str, Any]:
    """How a weight file was trained, as :func:`save_weights` was told; raises AssetError as :func:`load_weights` does."""
    with _opened(path) as file:
        return json.loads((file.metadata() or {})["made"])


def _small(value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    half = value.half()
    return half if torch.equal(half.isinf(), value.isinf()) else value.float()


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """The open file; whatever is wrong with it, or with what is made of its contents, is an AssetError that names it."""
    path = Path(path)
    if not path.is_file():
        raise AssetError(f"no weights at {path}: `make weights` trains them again")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise AssetError(f"{path} is damaged or of another version of facelab ({error}): `make weights` trains it again") from None
