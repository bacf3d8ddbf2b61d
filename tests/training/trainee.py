"""A process that trains, for tests that kill it: `python -m tests.training.trainee FOLDER`; a JSON line an epoch."""

import json
import sys
import time
from pathlib import Path

from tests.training.samples import make_config, make_data
from tuner.training.trainer import train


def main() -> None:
    folder = Path(sys.argv[1])

    def slow() -> bool:
        time.sleep(0.03)
        return False

    for report in train(make_config(epochs=6), data=make_data(folder), device="cpu", folder=folder, stop=slow):
        sys.stdout.write(json.dumps([report.epoch, report.replayed]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
