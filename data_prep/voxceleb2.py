"""VoxCeleb2: a million clips of 6,112 celebrities talking, cut from 150,480 videos.

Source: Chung, Nagrani and Zisserman, "VoxCeleb2: Deep Speaker Recognition" (Interspeech 2018), robots.ox.ac.uk/~vgg/data/voxceleb.
Terms: the list is CC BY 4.0, the videos remain their owners' and are no longer handed out: for those who have them.
Layout, one or both of the parts, each as it was distributed or without its folder "mp4":

    IN/dev/mp4/id00012/21Uxsk56VDQ/00001.mp4    person, video, clip
    IN/test/mp4/id00017/…

Command: python data_prep/voxceleb2.py IN OUT [--size 128] [--people 1000] [--tested 119] [--videos 10] [--every 25]

The defaults for people and videos are F3A-GAN's: 1,000 people of dev to learn from and 119 to test on, ten videos each. The set's own
test part has 118; where it is not there, or there are too few, the last of dev by name are held out. Of each video the first clip is
taken. Further columns: split, video. The identity is the person; frames are paired within a clip, since videos differ in clothes and walls.
"""
from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from facelab.core import AssetError, ShapeError
from facelab.faces.photos import Shot, prepare_set, set_parser


def people_of(folder: Path, part: str) -> list[Path]:
    root = next((place for place in (folder / part / "mp4", folder / part) if place.is_dir()), None)
    return sorted(path for path in root.glob("id*") if path.is_dir()) if root else []


def shots(folder: Path, people: int, tested: int, videos: int) -> Iterator[Shot]:
    if min(people, videos) < 1 or tested < 0:
        raise ShapeError(f"people and videos must be at least 1, and tested not negative, got {people}, {videos}, {tested}")
    learn, test = people_of(folder, "dev"), people_of(folder, "test")
    if not learn and not test:
        raise AssetError(f"{folder} holds no dev/mp4/id00012/21Uxsk56VDQ/00001.mp4 and no test/mp4/…")
    wanting = max(0, min(tested - len(test), len(learn) - 1))  # of the people to test on
    test = [*test, *learn[len(learn) - wanting :]][:tested]
    learn = learn[: len(learn) - wanting][:people]
    for split, chosen in (("train", learn), ("test", test)):
        for person in chosen:
            for video in sorted(path for path in person.iterdir() if path.is_dir())[:videos]:
                clips = sorted(video.glob("*.mp4"))
                key = (clips[0] if clips else video).relative_to(folder).as_posix()
                trouble = "" if clips else "a video's folder without a clip"
                yield Shot(clips[0] if clips else video, key, person.name, trouble=trouble, notes={"split": split, "video": video.name})


def main(arguments: list[str] | None = None) -> int:
    parser = set_parser(__doc__)
    parser.set_defaults(size=128)
    parser.add_argument("--people", type=int, default=1000, help="to learn from (default: %(default)s)")
    parser.add_argument("--tested", type=int, default=119, help="people to test on (default: %(default)s)")
    parser.add_argument("--videos", type=int, default=10, help="of each person (default: %(default)s)")
    parser.add_argument("--every", type=int, default=25, metavar="N", help="take every so many frames (default: %(default)s)")
    return prepare_set(parser, lambda options: shots(options.source, options.people, options.tested, options.videos), arguments)


if __name__ == "__main__":
    sys.exit(main())
