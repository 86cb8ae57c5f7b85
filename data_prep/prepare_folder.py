"""Any folder of pictures, or a video, into a prepared folder: the same as ``facelab prepare IN OUT``.

    python data_prep/prepare_folder.py IN OUT [--size 256] [--identity PATTERN] [--every N] [--detector auto|face-alignment|dlib]
"""
import sys

from facelab.cli import main

if __name__ == "__main__":
    sys.exit(main(["prepare", *sys.argv[1:]]))
