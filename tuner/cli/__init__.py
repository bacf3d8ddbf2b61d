"""The command line: one module for each group of commands. Importing it imports neither torch, MONAI nor Optuna."""

import sys


def main() -> None:
    """Run the command that was typed and exit with the code of the contract."""
    from tuner.cli.main import run

    sys.exit(run(sys.argv[1:]))
