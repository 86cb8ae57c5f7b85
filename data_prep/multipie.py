"""CMU Multi-PIE: 337 people in up to four sessions, 15 cameras, 19 flashes, 6 expressions, over 750,000 pictures.

Source: Gross et al., "Multi-PIE" (Image and Vision Computing 2010), sold on disks by Carnegie Mellon University, multipie.org.
Terms: a licence for internal research; a short list of people may be printed.
Layout, IN being the folder "data" of the disks or the one above it:

    IN/session01/multiview/001/01/05_1/001_01_01_051_06.png      person, session, recording, camera, flash

Command: python data_prep/multipie.py IN OUT [--cameras 05_1 …|all] [--lights 06 …|all] [--test 0.2]

The defaults, camera 05_1 (frontal) and light 06, are those of FVAE with 80/20 of the people; AF-VAE's rotations need --cameras all.
Further columns: split, by person; session, recording, camera, light; yaw in nominal degrees, 15 between neighbours, from 11_0, which
sees the left profile (-90), to 24_0, the right (90): positive turns the face to the picture's right. The two cameras above the others
(08_1 and 19_1) see the yaw of those below them.
"""
from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from facelab.core import AssetError
from facelab.faces.photos import Shot, held_out, prepare_set, set_parser

CAMERAS = ("11_0", "12_0", "09_0", "08_0", "13_0", "14_0", "05_1", "05_0", "04_1", "19_0", "20_0", "01_0", "24_0")
YAW = {camera: 15 * i - 90 for i, camera in enumerate(CAMERAS)} | {"08_1": -45, "19_1": 45}
EXPRESSIONS = {  # (session, recording)
    ("01", "01"): "neutral", ("01", "02"): "smile", ("02", "01"): "neutral", ("02", "02"): "surprise", ("02", "03"): "squint",
    ("03", "01"): "neutral", ("03", "02"): "smile", ("03", "03"): "disgust", ("04", "01"): "neutral", ("04", "02"): "neutral",
    ("04", "03"): "scream",
}  # fmt: skip
NAME = re.compile(r"(\d{3})_(\d\d)_(\d\d)_(\d\d)(\d)_(\d\d)")


def shots(folder: Path, cameras: Sequence[str], lights: Sequence[str], test: float) -> Iterator[Shot]:
    cameras = list(YAW) if cameras == ["all"] else cameras
    if unknown := sorted(set(cameras) - set(YAW)):
        raise AssetError(f"Multi-PIE has no camera {', '.join(unknown)}; it has {', '.join(YAW)}")
    root = folder / "data" if (folder / "data").is_dir() else folder
    ends = ["*"] if lights == ["all"] else [f"*_{light}" for light in lights]
    paths = sorted({p for camera in cameras for end in ends for p in root.glob(f"session*/multiview/*/*/{camera}/{end}.png")})
    found = [(path, match) for path in paths if (match := NAME.fullmatch(path.stem))]
    if not found:
        raise AssetError(
            f"{root} holds no session01/multiview/001/01/05_1/001_01_01_051_06.png or the like "
            f"for cameras {' '.join(cameras)} and lights {' '.join(lights)}"
        )
    tested = held_out((match[1] for _, match in found), test)
    for path, match in found:
        person, session, recording, rail, number, light = match.groups()
        camera = f"{rail}_{number}"
        notes = {"split": "test" if person in tested else "train", "session": session, "recording": recording, "camera": camera,
                 "light": light, "yaw": str(YAW[camera])}  # fmt: skip
        yield Shot(path, path.relative_to(folder).as_posix(), person, EXPRESSIONS.get((session, recording), ""), notes=notes)


def main(arguments: list[str] | None = None) -> int:
    parser = set_parser(__doc__)
    parser.add_argument("--cameras", nargs="+", default=["05_1"], help="such as 05_1 14_0, or all (default: 05_1)")
    parser.add_argument("--lights", nargs="+", default=["06"], help="such as 06 07, or all (default: 06)")
    parser.add_argument("--test", type=float, default=0.2, metavar="SHARE", help="of the people, held out (default: %(default)s)")
    return prepare_set(parser, lambda options: shots(options.source, options.cameras, options.lights, options.test), arguments)


if __name__ == "__main__":
    sys.exit(main())
