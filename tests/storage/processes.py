"""What the processes of `test_processes.py` do; each opens a store of its own, as workers do."""

import os
import random
import signal
import sys
import time
from multiprocessing.connection import Connection

from tests.storage.examples import SPACE, epoch, point
from tuner.storage.records import Outcome
from tuner.storage.states import State, Verdict
from tuner.storage.storage import Storage


def say(number: int) -> None:
    """Tell the test a number, at once: the next moment may be the last."""
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def open_empty(url: str, index: str) -> None:
    """Create whatever is missing, then use it."""
    with Storage.open(url, create=True) as store:
        say(len(store.queries.studies()))


def claim_all(url: str, index: str) -> None:
    """Claim until nothing is left, and print what was claimed."""
    with Storage.open(url) as store:
        study = store.studies.get("organs")
        while claim := store.trials.claim(study.study_id, f"w{index}"):
            say(claim.number)


def raise_and_ask(url: str, index: str) -> None:
    """Raise the budget and ask for parameters, both in competition with others."""
    with Storage.open(url) as store:
        for total in range(12, 31, 6):
            store.studies.raise_budget("organs", total)
            say(store.studies.enqueue("organs", point("dice")))


def work(url: str, index: str) -> None:
    """Be a worker: reap, claim, report five epochs, finish; until the budget is spent."""
    with Storage.open(url) as store:
        study = store.studies.get("organs")
        worker = store.workers.register(pid=os.getpid(), device="cpu", study="organs", version="1")
        while not store.queries.budget_spent(study.study_id):
            store.workers.requeue_lost(study.study_id)
            claim = store.trials.claim(study.study_id, worker)
            if claim is None:
                time.sleep(0.02)
                continue
            store.trials.set_params(claim, claim.params if claim.has_params else point("focal"), SPACE)
            for number in range(1, 6):
                time.sleep(random.random() * 0.02)
                if store.epochs.report(claim, epoch(number, claim.slot / 100), peers=True).verdict is Verdict.LOST:
                    break
            store.trials.finish(claim, Outcome(State.COMPLETE, values=(claim.slot / 100,), last=(5, claim.slot / 100)))


def claim_and_die(url: str, index: str) -> None:
    """Die by SIGKILL with a trial in the hands: before, or after, its parameters were stored."""
    with Storage.open(url) as store:
        study = store.studies.get("organs")
        worker = store.workers.register(pid=os.getpid(), device="cpu", study="organs", version="1")
        claim = store.trials.claim(study.study_id, worker)
        if claim and int(index) % 2:
            store.trials.set_params(claim, point("focal"), SPACE)
        os.kill(os.getpid(), signal.SIGKILL)


def run(what: str, url: str, index: str, output: Connection) -> None:
    """Do one of the above in a process of its own, with what it prints going to the test."""
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    output.close()
    globals()[what](url, index)
