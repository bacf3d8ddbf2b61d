"""Files of trials that are damaged, huge or made to do harm: the page is a page, and says what is wrong."""

import asyncio
import io
import json
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp

from api.app import create_app
from api.config import ServiceSettings
from api.http_cache import ResponseCache
from tests.api.conftest import settings_in
from tuner.storage.storage import Storage

PAGE = {"Accept": "text/html"}
MIB = 2**20
MAX_MEMORY = 300 * MIB


class Site:
    """The service on a copy of the demo, asked without a network; nothing is remembered from page to page."""

    def __init__(self, app: ASGIApp, folder: Path, number: int) -> None:
        self.app, self.number = app, number
        self.files = folder / "artifacts" / "organs" / str(number)
        self.trial = f"/studies/organs/trials/{number}"

    def ask(self, method: str, path: str, **words: Any) -> httpx.Response:
        """Send a request; a failure of the service is its 500."""

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as client:
                return await client.request(method, path, **words)

        return asyncio.run(send())

    def page(self) -> str:
        """Return the trial's page, which is one whatever its files hold."""
        answer = self.ask("GET", self.trial, headers=PAGE)
        assert answer.status_code == 200, answer.text[-400:]
        return answer.text

    def look(self) -> str:
        """Ask for everything that reads the trial's files; return its page."""
        text = self.page()
        beside = self.ask("GET", f"/studies/organs/compare?trials={self.number},0", headers=PAGE)
        assert beside.status_code == 200, beside.text[-400:]
        for case in ("c", "c0", "a", "case_001"):
            for view in ("prediction", "difference"):
                answer = self.ask("GET", f"{self.trial}/pictures/{case}?view={view}&slice=0")
                assert answer.status_code in (200, 404), answer.text[-400:]
        detail = self.ask("GET", f"/api/v1{self.trial}")
        assert detail.status_code == 200
        return text


@pytest.fixture(scope="module")
def site(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One service for all of these tests; each writes the files that it reads."""
    import shutil

    folder = tmp_path_factory.mktemp("damaged") / "copy"
    shutil.copytree(demo_folder, folder, ignore=shutil.ignore_patterns("cache"))
    (folder / "cache").symlink_to(demo_folder / "cache")
    places = settings_in(folder)
    with Storage.open(places.storage, retry_timeout_s=2) as store:
        best = store.queries.best("organs")
        assert best is not None
        app = create_app(store, ServiceSettings(places))
        app.state.remembered = ResponseCache(most_bytes=0)
        yield Site(app, folder, int(best["number"]))


def header(shape: tuple[int, ...], kind: str = "|u1") -> bytes:
    """Return the header of a `.npy`."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": kind, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def zipped(method: int = zipfile.ZIP_STORED, /, **members: bytes) -> bytes:
    """Return an archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def flagged(offset: tuple[int, int], value: int, width: int = 1) -> bytes:
    """Return an archive of one case with a field of its two headers set."""
    content = bytearray(zipped(c=header((4, 4)) + bytes(16)))
    for sign, at in zip((b"PK\x03\x04", b"PK\x01\x02"), offset, strict=True):
        place = content.index(sign) + at
        content[place : place + width] = value.to_bytes(width, "little")
    return bytes(content)


def bomb(cases: int, mib: int) -> bytes:
    """Return an archive of so many cases that unpack to so many MiB each."""
    return zipped(zipfile.ZIP_DEFLATED, **{f"c{i}": header((mib, 1024, 1024)) + bytes(mib * MIB) for i in range(cases)})


def garbled() -> bytes:
    """Return an archive whose packed bytes are no deflate stream."""
    content = bytearray(zipped(zipfile.ZIP_DEFLATED, c=header((64, 64)) + os.urandom(4096)))
    content[60:200] = b"\xff" * 140
    return bytes(content)


def pickled() -> bytes:
    """Return an archive with an array of objects."""
    buffer = io.BytesIO()
    np.savez(buffer, c=np.array([print], dtype=object))  # type: ignore[arg-type]
    return buffer.getvalue()


def many_members() -> bytes:
    """Return an archive with a directory of many megabytes."""
    entry = (
        b"PK\x01\x02" + struct.pack("<HHHHHHIIIHHHHHII", 20, 20, 0, 0, 0, 33, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0) + b"a.npy"
    )
    count = 60_000
    return entry * count + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count, count, len(entry) * count, 0, 0)


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a shape of petabytes": (lambda: zipped(c=header((2**20, 2**20, 2**10)) + b"abc"), "at most 256 MiB"),
    "a shape that is not there": (lambda: zipped(c=header((64, 64)) + b"abc"), ""),
    "a negative shape": (lambda: zipped(c=header((9, 9)).replace(b"(9, 9)", b"(-1,4)") + bytes(4)), "no label map"),
    "a wide row": (lambda: zipped(zipfile.ZIP_DEFLATED, c=header((1, 2**27)) + bytes(2**20)), "unpacks to"),
    "no slices": (lambda: zipped(c=header((0, 4, 4))), "no label map"),
    "four axes": (lambda: zipped(c=header((1, 1, 4, 4)) + bytes(16)), "no label map"),
    "other numbers": (lambda: zipped(c=header((4, 4), "<f8") + bytes(128)), "float64"),
    "encrypted": (lambda: flagged((6, 8), 1), "encrypted"),
    "packed by an unknown method": (lambda: flagged((8, 10), 99, 2), "method 99"),
    "packed by lzma": (lambda: zipped(zipfile.ZIP_LZMA, c=header((4, 4)) + bytes(16)), "method 14"),
    "a claimed size": (lambda: flagged((22, 24), 2**31, 4), ""),
    "no deflate stream": (garbled, "cannot be read"),
    "objects": (pickled, "no label map"),
    "no array": (lambda: zipped(c=b"<html>"), "cannot be read"),
    "a header of nested brackets": (
        lambda: zipped(c=b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000), "cannot be read"
    ),
    "a long header": (
        lambda: zipped(zipfile.ZIP_DEFLATED, c=b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b" " * (64 * MIB)),
        "2.0",
    ),
    "a huge directory": (many_members, "directory"),
    "many cases": (lambda: zipped(**{f"c{i}": header((2, 2)) + bytes(4) for i in range(40)}), "24 more cases"),
    "no archive": (lambda: b"PK" + os.urandom(5000), "no readable archive"),
    "empty": (lambda: b"", "no readable archive"),
    "names that are markup and paths": (
        lambda: zipped(**dict.fromkeys(("<img src=x onerror=alert(1)>", "../../a"), header((2, 2)) + bytes(4))),
        "",
    ),
}  # fmt: skip


@contextmanager
def memory_bounded() -> Iterator[None]:
    """Fail when this process grows by more than `MAX_MEMORY`, even for a moment."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("the peak of memory cannot be measured here")
    before = _memory("VmRSS")
    yield
    assert _memory("VmHWM") - before < MAX_MEMORY


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


@pytest.mark.parametrize("name", HOSTILE)
def test_predictions_that_are_damaged_or_hostile(site: Site, name: str) -> None:
    """The page says what is wrong with the file; nothing in it is run, nor believed."""
    make, said = HOSTILE[name]
    content = make()
    (site.files / "predictions.npz").write_bytes(content)
    with memory_bounded():
        text = site.look()

    assert said in text
    assert not said or "predictions.npz" in text.split("What it predicted")[1].split("<h2>")[0] or "Predictions" in text
    assert "<img src=x" not in text


def test_a_bomb_costs_neither_time_nor_memory(site: Site) -> None:
    """Most of a gigabyte in a megabyte: shapes are known from headers, and a slice is read in pieces."""
    (site.files / "predictions.npz").write_bytes(bomb(3, 250))
    with memory_bounded():
        text = site.page()
        assert site.ask("GET", f"{site.trial}/pictures/c1?view=prediction&slice=249").status_code == 200

    assert "more than 512 MiB" in text
    assert text.count('class="card case"') == 2


CONFUSIONS: dict[str, tuple[bytes, str]] = {
    "a huge shape": (header((2**31, 2**31), "<i8") + b"a", "classes"),
    "not square": (header((3, 4), "<i8") + bytes(96), "no square table"),
    "cut off": (header((9, 9), "<i8") + bytes(9), "confusion.npy"),
    "not finite": (header((2, 2), "<f8") + np.array([1, np.nan, 2, np.inf]).tobytes(), "not finite"),
    "negative": (header((2, 2), "<i8") + np.array([-5, 1, 1, 1]).tobytes(), "negative"),
    "words": (header((2, 2), "<U9") + bytes(144), "no square table"),
    "no array": (b"\x93NUMPY" + b"\xff" * 100, "confusion.npy"),
}


@pytest.mark.parametrize("name", CONFUSIONS)
def test_a_confusion_that_is_none(site: Site, name: str) -> None:
    """Its shape is bounded before anything is made of it."""
    content, said = CONFUSIONS[name]
    (site.files / "confusion.npy").write_bytes(content)

    assert said in site.page()


LINES = [
    "[" * 5000,
    '{"epoch": %d, "case": "a", "metrics": [1]}',
    '{"epoch": %d, "case": {"x": 1}, "metrics": {"dice": {"liver": "high", "aorta": [1], "spleen": NaN}}}',
    '{"epoch": %d, "case": "b", "metrics": {"dice": 7}}',
    '{"epoch": %d, "case": null, "metrics": {"dice": {"liver": 1e999, "x": ' + "9" * 4000 + "}}}",
    '{"epoch": %d, "case": "' + "x" * 3000 + '", "metrics": {"dice": {"liver": 0.5}}}',
    "null",
    '"text"',
    "{" * 3,
]


def test_scores_of_cases_that_are_none(site: Site) -> None:
    """A line that is no score is passed over, a number that is none is shown as none."""
    epoch = site.ask("GET", f"/api/v1{site.trial}").json()["best_epoch"]
    lines = [line.replace("%d", str(epoch)) for line in LINES]
    (site.files / "cases.jsonl").write_text("\n".join(lines) + "\n" + "y" * 3_000_000, encoding="utf-8")
    with memory_bounded():
        text = site.page()

    assert "0.500" in text


def test_files_that_may_not_be_read_are_said(site: Site) -> None:
    """A link in the place of a file, or another user's: the page is there all the same."""
    for name in ("predictions.npz", "confusion.npy", "cases.jsonl", "log.txt"):
        (site.files / name).unlink(missing_ok=True)
        (site.files / name).symlink_to("/etc/hostname")
    site.look()
    for name in ("predictions.npz", "confusion.npy", "cases.jsonl", "log.txt"):
        (site.files / name).unlink()


@st.composite
def mutated(draw: st.DrawFn, valid: bytes) -> bytes:
    """Return bytes near those that are valid: some changed, cut, doubled or put in."""
    content = bytearray(valid)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.sampled_from(["set", "cut", "insert", "double", "ones"]))
        if kind == "set":
            content[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == "cut":
            del content[at : at + draw(st.integers(1, 400))]
        elif kind == "insert":
            content[at:at] = draw(st.binary(max_size=40))
        elif kind == "double":
            content[at:at] = content[at : at + draw(st.integers(1, 400))]
        else:
            content[at : at + draw(st.integers(1, 8))] = b"\xff" * draw(st.integers(1, 8))
    return bytes(content)


def _valid_files() -> dict[str, bytes]:
    from tuner.label_archive import write_label_archive

    maps = {"c": np.arange(3 * 9 * 8, dtype=np.uint8).reshape(3, 9, 8) % 7, "a": np.ones((5, 4), np.uint8)}
    old = io.BytesIO()
    np.savez_compressed(old, **maps)  # type: ignore[arg-type]
    line = {"epoch": 1, "case": "c", "metrics": {"dice": {"liver": 0.5, "aorta": None}}}
    return {
        "predictions.npz": write_label_archive(maps),
        "predictions.npz of before": old.getvalue(),
        "confusion.npy": header((9, 9), "<i8") + np.arange(81).tobytes(),
        "cases.jsonl": "".join(json.dumps(line | {"epoch": n}) + "\n" for n in range(1, 13)).encode(),
        "log.txt": b"12:00:01 INFO epoch 1\n\x1b[31mred\n",
    }


VALID = _valid_files()
STUDY = """\
name: mutant
dataset: {name: phantom, size: 64, validation: 0.25}
model: {name: unet, width: 8}
train: {epochs: 3, batch_size: 8, lr: 1.0e-3}
search:
  loss: [pixel, dice, {edgy: [dice, boundary]}]
  loss.focal.gamma: {low: 0.5, high: 4}
  train.lr: {low: 1.0e-5, high: 1.0e-2, log: true}
  train.seed: [0, 1, 2]
objectives: [{metric: dice}]
sampler: {name: tpe}
budget: {trials: 5, timeout: 24h, retries: 3}
"""


def _check_mutants(site: Site, examples: int) -> None:
    """Half of the examples are files of trials, half are study files, as YAML and as JSON."""

    @settings(max_examples=examples // 2, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.data())
    def files(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(VALID)))
        (site.files / name.split()[0]).write_bytes(data.draw(mutated(VALID[name])))
        site.page()
        answer = site.ask("GET", f"{site.trial}/pictures/c?view=prediction&slice={data.draw(st.integers(0, 3))}")
        assert answer.status_code in (200, 404), answer.text[-300:]

    @settings(max_examples=examples // 2, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(mutated(STUDY.encode()), st.booleans())
    def studies(content: bytes, as_yaml: bool) -> None:
        import yaml

        if as_yaml:
            answer = site.ask("POST", "/new/draft", json={"yaml": content.decode("utf-8", "replace")})
            assert answer.status_code in (200, 422), answer.text[-300:]
            return
        text = content
        with suppress(yaml.YAMLError, ValueError, TypeError, RecursionError):  # then it is not even JSON
            text = json.dumps(yaml.safe_load(content)).encode()
        answer = site.ask("POST", "/api/v1/studies", content=text, headers={"Content-Type": "application/json"})
        assert answer.status_code in (201, 400, 409, 413, 422), answer.text[-300:]
        if answer.status_code == 201:
            assert site.ask("DELETE", answer.headers["Location"]).status_code == 204

    with memory_bounded():
        files()
        studies()


def test_mutated_files_and_studies(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """No 500, no traceback, no memory: whatever bytes are there."""
    _check_mutants(site, 40)

    assert "Traceback" not in caplog.text


@pytest.mark.slow
def test_a_thousand_mutated_files_and_studies(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """The same, at length."""
    _check_mutants(site, 1000)

    assert "Traceback" not in caplog.text
