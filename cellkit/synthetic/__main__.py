"""``python -m cellkit.synthetic FOLDER`` makes the images and the truth of the sample study in a folder."""

import argparse

from cellkit.synthetic.sample import make_sample_images

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m cellkit.synthetic", description=__doc__)
    parser.add_argument("folder", help="made if it is not there; files of the same names are replaced")
    make_sample_images(parser.parse_args().folder)
