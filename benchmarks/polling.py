"""What fifty open pages cost: they poll every five seconds while four workers write, or while nothing changes.

    python -m benchmarks.polling [--pages 50] [--seconds 40]

A page asks for itself with its ETag, and for two figures in sight when it has changed, as the browser does. Workers
report epochs so that a trial ends every second. Said are: failed requests, the longest that a worker waited for the
storage, and the CPU seconds of the service as a share of the run's seconds.
"""

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx

from benchmarks.dashboard import cpu_seconds, fill, free_port, served
from tests.api import demo
from tests.storage.examples import completed
from tuner.storage.storage import Storage

EVERY_S = 5.0
FIGURES_EVERY_S = 15.0
WORKERS = 4
EPOCHS = 4


class Page:
    """One open page of the study."""

    def __init__(self, origin: str, name: str, delay: float, stop: threading.Event) -> None:
        self.origin, self.name, self.delay, self.stop = origin, name, delay, stop
        self.failed: list[int] = []
        self.waits: list[float] = []
        self._tags: dict[str, str] = {}

    def live(self) -> None:
        """Poll until told to stop."""
        self.stop.wait(self.delay)
        drawn = 0.0
        with httpx.Client(base_url=self.origin, timeout=60) as client:
            while not self.stop.is_set():
                changed = self._ask(client, f"/studies/{self.name}")
                if changed and time.monotonic() - drawn > FIGURES_EVERY_S:
                    drawn = time.monotonic()
                    for figure in ("history", "curves"):
                        self._ask(client, f"/api/v1/studies/{self.name}/figures/{figure}")
                self.stop.wait(EVERY_S)

    def _ask(self, client: httpx.Client, path: str) -> bool:
        begin = time.perf_counter()
        headers = {"X-Poll": "1"} | ({"If-None-Match": self._tags[path]} if path in self._tags else {})
        answer = client.get(path, headers=headers)
        self.waits.append(1000 * (time.perf_counter() - begin))
        if answer.status_code not in (200, 304):
            self.failed.append(answer.status_code)
        if "ETag" in answer.headers:
            self._tags[path] = answer.headers["ETag"]
        return answer.status_code == 200


def work(url: str, name: str, worker: str, stop: threading.Event, waits: list[float]) -> None:
    """Report epochs so that this worker ends a trial every `WORKERS` seconds."""
    dice = random.Random(worker)
    with Storage.open(url) as store:
        record = store.studies.get(name)
        while not stop.is_set():
            claim = store.trials.claim(record.study_id, worker)
            if claim is None:
                return
            params = demo.point(record.space, claim.params, dice)
            store.trials.set_params(claim, params, record.space)
            for number in range(1, EPOCHS + 1):
                begin = time.perf_counter()
                store.epochs.report(claim, demo.epoch_row(number, EPOCHS, params, dice))
                waits.append(1000 * (time.perf_counter() - begin))
                stop.wait(WORKERS / EPOCHS)
            store.trials.finish(claim, completed(dice.random(), last=(EPOCHS, 0.5)))


def watch(url: str, name: str, pages: int, seconds: float, *, writing: bool) -> str:
    """Run one scene and return its line."""
    port = free_port()
    stop = threading.Event()
    waits: list[float] = []
    with served(
        [sys.executable, "-m", "tuner", "serve", "--storage", url, "--port", str(port)], port, "/healthz"
    ) as server:
        origin = f"http://127.0.0.1:{port}"
        httpx.get(f"{origin}/studies/{name}", timeout=60)
        opened = [Page(origin, name, EVERY_S * i / pages, stop) for i in range(pages)]
        threads = [threading.Thread(target=page.live) for page in opened]
        if writing:
            threads += [threading.Thread(target=work, args=(url, name, f"w{i}", stop, waits)) for i in range(WORKERS)]
        before, begin = cpu_seconds(server.pid), time.monotonic()
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        stop.set()
        for thread in threads:
            thread.join()
        share = (cpu_seconds(server.pid) - before) / (time.monotonic() - begin)
    asked = [wait for page in opened for wait in page.waits]
    failed = sum(len(page.failed) for page in opened)
    scene = "a trial a second" if writing else "nothing changes"
    slowest = f"{max(waits):.0f}" if waits else ""
    return (
        f"| {scene} | {len(asked)} | {failed} | {statistics.median(asked):.0f} | {max(asked):.0f} | {slowest} "
        f"| {100 * share:.1f} % |"
    )


def main() -> None:
    """Fill a storage with 1000 trials, add a study that runs, and watch both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=40)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'tuner.db'}"
        fill(url, 1000, 20)
        with Storage.open(url) as store:
            store.studies.create(demo.new_study(demo.spec_of("running", trials=400, epochs=EPOCHS)))
        lines = [watch(url, "large", words.pages, words.seconds, writing=False)]
        lines.append(watch(url, "running", words.pages, words.seconds, writing=True))
    print("| | requests | failed | median ms | slowest ms | longest wait of a worker ms | CPU of the service |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
