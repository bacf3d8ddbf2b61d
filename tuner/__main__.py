"""`python -m tuner` is `tuner`: how the launcher starts workers with the interpreter that it runs in itself."""

import os
import sys
from pathlib import Path

import tuner
from tuner.cli import main


def _forget_current_folder() -> None:
    """Take away the current folder, which `python -m` puts first: an `api` that lies there is not ours.

    It stays where it is the one that holds this package.
    """
    if sys.flags.safe_path or not sys.path or Path(sys.path[0] or os.curdir).resolve() != Path.cwd():
        return
    if Path.cwd() != Path(tuner.__file__).resolve().parents[1]:
        del sys.path[0]


if __name__ == "__main__":
    _forget_current_folder()
    main()
