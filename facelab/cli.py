"""The command line: ``facelab doctor``, ``prepare``, ``animate``, ``course``, ``train`` and ``experiment``."""
from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facelab import __version__
from facelab.core import PACKAGE, FacelabError, PictureError
from facelab.course import NOTEBOOKS, PROFILES, CourseError, Result, notebooks, run, write_student_copies


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0: it succeeded, 1: a notebook failed or no face was found, 2: a mistake in the call, 130: interrupted."""
    options = _parser().parse_args(arguments)
    try:
        code = options.command(options)
        sys.stdout.flush()
        return code
    except FacelabError as error:
        print(f"facelab: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("facelab: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="facelab", description="A course and a laboratory on face manipulation.")
    parser.add_argument("--version", action="version", version=f"facelab {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    doctor = commands.add_parser("doctor", help="what this machine has, what is missing, and how to get it")
    doctor.set_defaults(command=_doctor)

    prepare = commands.add_parser("prepare", help="turn pictures or a video into a prepared folder of faces")
    prepare.add_argument("source", type=Path, metavar="IN", help="a folder of pictures, or a video file")
    prepare.add_argument("out", type=Path, metavar="OUT", help="the prepared folder; a second run goes on where the first stopped")
    prepare.add_argument("--size", type=int, default=256, help="side of the faces in pixels (default: %(default)s)")
    prepare.add_argument("--identity", metavar="PATTERN", help="regular expression whose first group, in a file's path, is who is shown "
                         "(default: the folder that it lies in)")  # fmt: skip
    prepare.add_argument("--every", type=int, default=1, metavar="N", help="of a video, take every Nth frame (default: %(default)s)")
    prepare.add_argument("--detector", choices=("auto", "face-alignment", "dlib"), default="auto", help="what finds faces (default: auto)")
    prepare.set_defaults(command=_prepare)

    animate = commands.add_parser("animate", help="let a photograph follow the face in a video, and write it as a film")
    animate.add_argument("photo", type=Path, metavar="PHOTO", help="a picture of one face")
    animate.add_argument("driver", type=Path, metavar="VIDEO", help="anybody's face, moving")
    animate.add_argument("out", type=Path, metavar="OUT", help="….gif or ….mp4; the video's frames stand on the left")
    animate.add_argument("--keep", nargs="+", metavar="PART", default=["identity", "camera"],
                         help="what stays the photograph's: identity, expression, pose, camera (default: identity camera)")  # fmt: skip
    animate.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth frame (default: %(default)s)")
    animate.add_argument("--regressor", type=Path, metavar="FILE", help="a regressor.safetensors of your own (default: the shipped one)")
    animate.add_argument("--weights", type=Path, metavar="FILE", help="an f3a_gan.safetensors of your own (default: the shipped one)")
    animate.add_argument("--detector", choices=("auto", "face-alignment", "dlib"), default="auto", help="what finds faces (default: auto)")
    animate.set_defaults(command=_animate)

    course = commands.add_parser("course", help="run the notebooks and write them as a book that reads offline")
    course.add_argument("names", nargs="*", metavar="NAME", help="notebooks by number or name, such as 01; all of them when left out")
    course.add_argument("--profile", choices=PROFILES, default="smoke", help="how much is computed (default: %(default)s)")
    course.add_argument("--photos", type=Path, metavar="DIR", help="prepared photographs that the notebooks show beside made faces")
    course.add_argument("--out", type=Path, metavar="DIR", help="where the book goes (default: build/course/PROFILE)")
    course.add_argument("--student", type=Path, metavar="DIR", help="only write copies without the solutions, into DIR")
    course.add_argument("--notebooks", type=Path, metavar="DIR", default=NOTEBOOKS, help="run these instead, such as a student's copies")
    course.add_argument("--force", action="store_true", help="run again what is done; with --student, overwrite existing copies")
    course.set_defaults(command=_course)

    train = commands.add_parser("train", help="train a network as its shipped weights were, or fine-tune those on photographs")
    train.add_argument("name", metavar="NAME", help="of the weight file, such as af_vae")
    train.add_argument("--photos", type=Path, metavar="DIR", help="fine-tune on these prepared photographs, a fifth of the people held out")
    train.add_argument("--profile", choices=PROFILES, default="cpu", help="how large, and on how many made faces (default: %(default)s)")
    train.add_argument("--steps", type=int, metavar="N", help="how long (default: as the recipe says)")
    train.add_argument("--seed", type=int, default=0, help="of first weights and batches (default: %(default)s)")
    train.add_argument("--out", type=Path, metavar="DIR", help="log, checkpoint and weights (default: build/train/NAME)")
    train.add_argument("--resume", action="store_true", help="go on with the run that is there")
    train.set_defaults(command=_train)

    experiment = commands.add_parser("experiment", help="run one paper's table: a notebook of notebooks/experiments")
    experiment.add_argument("name", metavar="NAME", help="such as af_vae_ablation")
    experiment.add_argument("-p", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"), dest="more", help="one of its parameters")
    experiment.add_argument("--profile", choices=PROFILES, default="smoke", help="how much is computed (default: %(default)s)")
    experiment.add_argument("--photos", type=Path, metavar="DIR", help="prepared photographs")
    experiment.add_argument("--out", type=Path, metavar="DIR", help="where the run goes (default: build/experiments/NAME/PROFILE…)")
    experiment.add_argument("--force", action="store_true", help="run again what is done")
    experiment.set_defaults(command=_experiment)
    return parser


def _doctor(options: argparse.Namespace) -> int:
    from facelab.doctor import report

    for line in report():
        print(line)
    return 0


def _prepare(options: argparse.Namespace) -> int:
    from facelab.faces.photos import prepare_folder

    done = prepare_folder(options.source, options.out, size=options.size, identity=options.identity, every=options.every,
                          detector=options.detector)  # fmt: skip
    print(done)
    if not done.faces:
        why = f"{options.out / 'rejects.csv'} says why" if done.rejects else "there is no file in it"
        print(f"facelab: not one face from {options.source}: {why}", file=sys.stderr)
    return 0 if done.faces else 1


def _animate(options: argparse.Namespace) -> int:
    import torch

    import facelab
    from facelab.blocks import load_weights
    from facelab.blocks.regressor import Regressor
    from facelab.faces.photos import frame_rate, prepare_clip, prepare_picture, read_picture
    from facelab.papers import f3a_gan
    from facelab.show import film

    if options.out.suffix.lower() not in (".gif", ".mp4"):  # before minutes of work, not after
        raise PictureError(f"{options.out.name}: films are written as .gif or .mp4")
    keep = f3a_gan.check_keep(options.keep)
    model = load_weights(f3a_gan.Model, f3a_gan.Config, options.weights) if options.weights else facelab.load("f3a_gan")
    if options.regressor:
        model.use_regressor(load_weights(Regressor, Regressor.Config, options.regressor))
    size = model.config.size
    photo = prepare_picture(read_picture(options.photo), size, options.detector).image
    driver = prepare_clip(options.driver, size, options.every, options.detector).image
    made = model.reenact(photo, driver, keep)
    print(film(torch.cat([driver, made], dim=3), options.out, rate=frame_rate(options.driver) / options.every))
    return 0


def _course(options: argparse.Namespace) -> int:
    chosen = notebooks(options.notebooks, options.names)
    if options.student:
        written = write_student_copies(chosen, options.student, force=options.force)
        kept = len(chosen) - len(written)
        print(f"{len(written)} student copies in {options.student}" + (f", {kept} left as they were (--force overwrites)" if kept else ""))
        return 0

    from facelab import book

    out = options.out or PACKAGE.parent / "build" / "course" / options.profile
    width = max(len(path.stem) for path in chosen)
    print(f"{'notebook':{width}}  {'time':>8}  {'memory':>8}", flush=True)
    failed = []
    for result in run(chosen, out, profile=options.profile, photos=options.photos, force=options.force):
        print(_row(result, width), flush=True)
        failed += [result.name] if result.error else []
    print(f"book: {book.write(notebooks(options.notebooks), out)}")
    if failed:
        print(f"facelab: {len(failed)} of {len(chosen)} notebooks failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _train(options: argparse.Namespace) -> int:
    from facelab.recipes import train

    out = options.out or PACKAGE.parent / "build" / "train" / options.name
    print(train(options.name, out, profile=options.profile, photos=options.photos, steps=options.steps, seed=options.seed,
                resume=options.resume))  # fmt: skip
    return 0


def _experiment(options: argparse.Namespace) -> int:
    path = NOTEBOOKS / "experiments" / f"{options.name}.ipynb"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.ipynb"))) or "none; run from a clone of the repository"
        raise CourseError(f"no experiment called {options.name!r}; there are {there}")
    more = {key: _literal(value) for key, value in options.more}
    kind = "_".join([options.profile, *(f"{key}={value}" for key, value in options.more)]).replace(os.sep, "_")
    out = options.out or PACKAGE.parent / "build" / "experiments" / options.name / kind
    more = {"out": str(out.resolve())} | more  # where an experiment leaves its metrics.json
    (result,) = run([path], out, profile=options.profile, photos=options.photos, more=more, force=options.force)
    print(_row(result, len(result.name)))
    print(out / path.name)
    return 1 if result.error else 0


def _literal(text: str) -> Any:
    """A parameter's value: a number, true, false or list as JSON writes it, else the word itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _row(result: Result, width: int) -> str:
    end = f"FAILED {result.error}" if result.error else "done before" if result.reused else "done"
    return f"{result.name:{width}}  {result.seconds:6.1f} s  {result.memory / 2**30:4.2f} GiB  {end}"


if __name__ == "__main__":
    sys.exit(main())
