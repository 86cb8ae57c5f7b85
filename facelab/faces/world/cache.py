"""Made faces kept on disk as bytes and mapped into memory, so that training never waits for rendering."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm.auto import tqdm

from facelab.core import AssetError, ShapeError, cache_folder
from facelab.faces.batch import FaceBatch

if TYPE_CHECKING:
    from facelab.faces.world.sampling import FaceWorld

_MANIFEST = "faces.json"
_CHUNK = 128


class FaceCache:
    """A folder of made faces; indexes like a FaceBatch, and to one.

    One ``.npy`` file a field, pictures as uint8, masks as bool, the truth as it was drawn; ``faces.json`` says what was asked
    for and how many faces are finished. Pictures come back within half a grey level of the rendered ones.

    Args: ``folder`` made by :meth:`FaceWorld.cache`. Raises AssetError when it is missing, unfinished or damaged.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        manifest = _read(self.folder)
        if manifest is None:
            raise AssetError(f"no made faces in {self.folder}: make them with FaceWorld(...).cache(n, size, folder=...)")
        if manifest["done"] < manifest["n"]:
            raise AssetError(
                f"{self.folder} holds {manifest['done']} of {manifest['n']} faces: call FaceWorld.cache again, it goes on from there"
            )
        self._arrays = {}
        for name in manifest["fields"]:
            try:
                self._arrays[name] = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise AssetError(f"{self.folder / name}.npy is missing or damaged ({error}): delete the folder and make it again") from None
            if len(self._arrays[name]) != manifest["n"]:
                raise AssetError(
                    f"{self.folder / name}.npy has {len(self._arrays[name])} rows for {manifest['n']} faces: "
                    "delete the folder and make it again"
                )

    def __len__(self) -> int:
        return len(self._arrays["image"])

    @property
    def size(self) -> int:
        """Side of the pictures, in pixels."""
        return self._arrays["image"].shape[-1]

    def __getitem__(self, index: Any) -> FaceBatch:
        if isinstance(index, (int, np.integer)):
            index = range(len(self))[index]
            index = slice(index, index + 1)
        elif not isinstance(index, slice):
            index = np.asarray(index)
        rows = {name: np.array(array[index]) for name, array in self._arrays.items()}
        rows["image"] = rows["image"].astype(np.float32) / np.float32(127.5) - 1
        rows["face_mask"] = rows["face_mask"].astype(np.float32)
        return FaceBatch(**{name: torch.from_numpy(value) for name, value in rows.items()})

    def __reduce__(self):
        return FaceCache, (self.folder,)  # a worker maps the files itself instead of being sent them

    def __repr__(self) -> str:
        return f"FaceCache({len(self)} faces, {self.size} px, {self.folder})"


def fill(world: FaceWorld, n: int, size: int, folder: str | Path | None, arguments: dict[str, Any], start: int) -> FaceCache:
    """Renders what is missing of n faces and opens them; see :meth:`FaceWorld.cache`."""
    if n < 1:
        raise ShapeError(f"a cache needs at least one face, got n={n}")
    wanted = json.loads(json.dumps({"seed": world.seed, "n": n, "size": size, "start": start, **arguments, "made_by": _fingerprint(world)}))
    name = f"world_{size}px_{n}_{hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:12]}"
    folder = cache_folder() / name if folder is None else Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = _read(folder)
    if manifest is not None and manifest["asked"] != wanted:
        changed = ", ".join(k for k in wanted if manifest["asked"].get(k) != wanted[k])
        raise AssetError(f"{folder} holds other faces (different {changed}): give another folder, or delete this one")
    done = 0 if manifest is None else manifest["done"]
    arrays: dict[str, np.ndarray] = {}
    with tqdm(total=n, initial=done, desc=f"made faces, {size} px", unit="face", disable=done == n) as bar:
        while done < n:
            count = min(_CHUNK, n - done)
            batch = world.sample(count, size=size, start=start + done, **arguments)
            rows = {f.name: getattr(batch, f.name).numpy() for f in fields(batch) if getattr(batch, f.name) is not None}
            rows["image"] = np.rint((rows["image"] + 1) * np.float32(127.5)).astype(np.uint8)
            rows["face_mask"] = rows["face_mask"] > 0.5
            for key, value in rows.items():
                if key not in arrays:
                    path = folder / f"{key}.npy"
                    arrays[key] = (
                        np.lib.format.open_memmap(path, "r+")
                        if done and path.exists()
                        else np.lib.format.open_memmap(path, "w+", value.dtype, (n, *value.shape[1:]))
                    )
                arrays[key][done : done + count] = value
                arrays[key].flush()
            done += count
            _write(folder, {"asked": wanted, "n": n, "done": done, "fields": sorted(rows)})
            bar.update(count)
    return FaceCache(folder)


def _fingerprint(world: FaceWorld) -> str:
    """Changes when the renderer's source or the model does, so that old faces are not taken for new ones."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    for array in (world.model.mean, world.model.identity_basis, world.model.expression_basis, world.model.triangles):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _read(folder: Path) -> dict[str, Any] | None:
    path = folder / _MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text())
        missing = {"asked", "n", "done", "fields"} - set(manifest)
        if missing:
            raise KeyError(*missing)
    except (ValueError, KeyError, TypeError) as error:
        raise AssetError(f"{path} is damaged ({error!r}): delete the folder and make it again") from None
    return manifest


def _write(folder: Path, manifest: dict[str, Any]) -> None:
    temporary = folder / f"{_MANIFEST}.{os.getpid()}"
    temporary.write_text(json.dumps(manifest, indent=1))
    os.replace(temporary, folder / _MANIFEST)
