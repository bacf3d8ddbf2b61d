"""A small client of the REST service: no HTTP library, types on everything, errors in the service's own words.

client = Client("http://127.0.0.1:8000", token="…")
client.create({"name": "organs", "dataset": "phantom", "search": {"loss": ["region"]}})
client.wait("organs")
print(client.best("organs")["config"])

What methods return are dictionaries whose keys `tuner.documents` declares.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import Request, urlopen

from cachetools import LRUCache

from tuner.documents import (
    ActivityPage,
    BestDetail,
    DatasetDocument,
    FigureDocument,
    LossDocument,
    ModelDocument,
    StudyDocument,
    TrialDetail,
    TrialDocument,
    TrialPage,
    WorkerDocument,
)
from tuner.errors import RequestError, RunError, TunerError
from tuner.registry import Scalar

Json = dict[str, Any]

PAGE = 1000
"""Trials that one request of `iter_trials` brings."""
_REMEMBERED = 64


class ServiceError(TunerError):
    """The service refused or failed; `status` is the HTTP status, the rest is what its error body says."""

    def __init__(self, status: int, error: Mapping[str, Any]) -> None:
        super().__init__(
            str(error.get("message") or f"the service answered {status}"),
            hint=error.get("hint"),
            where=error.get("where"),
        )
        self.status = status
        self.code = str(error.get("code") or "error")
        self.exit_code = RequestError.exit_code if status < 500 else RunError.exit_code


class Client:
    """Talks to one service. What was read is asked for again by ETag, so polling costs next to nothing.

    Args:
        url: Address of the service, without `/api/v1`.
        token: A token of the service (`tuner token add`, or its TUNER_API_TOKEN); needed for writes where it has any.
        timeout_s: How long one request may take.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = 30.0) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise RequestError(f"{url!r} is not the address of a service, as in http://127.0.0.1:8000", where="url")
        self._base = url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._known: LRUCache[str, tuple[str, Any]] = LRUCache(_REMEMBERED)

    def studies(self, *, archived: Literal["exclude", "only", "include"] = "exclude") -> list[StudyDocument]:
        """Return all studies, newest first (at most 1000); those that are archived only when asked for."""
        found: list[StudyDocument] = self._get("/studies", {"limit": PAGE, "archived": archived})
        return found

    def study(self, name: str) -> StudyDocument:
        """Return the document of `tuner status --json`."""
        found: StudyDocument = self._get(f"/studies/{quote(name)}", {})
        return found

    def create(self, study_file: Mapping[str, Any]) -> StudyDocument:
        """Create a study from the content of a study file."""
        found: StudyDocument = self._send("POST", "/studies", dict(study_file))
        return found

    def delete(self, name: str, *, artifacts: bool = False) -> None:
        """Delete a study, and with `artifacts` the files of its trials."""
        self._send("DELETE", f"/studies/{quote(name)}?{urlencode({'artifacts': str(artifacts).lower()})}")

    def annotate(
        self,
        name: str,
        *,
        notes: str | None = None,
        notes_revision: int | None = None,
        add_tags: Sequence[str] = (),
        remove_tags: Sequence[str] = (),
        starred: bool | None = None,
        archived: bool | None = None,
    ) -> StudyDocument:
        """Change notes, tags, star of a study, or archive it; what is left out stays.

        `notes_revision` is that of the notes that were read. Raises ServiceError (409) when they are others now.
        """
        body = _change(notes=notes, notes_revision=notes_revision, starred=starred, archived=archived)
        body |= {"add_tags": list(add_tags), "remove_tags": list(remove_tags)}
        found: StudyDocument = self._send("PATCH", f"/studies/{quote(name)}", body)
        return found

    def annotate_trial(
        self,
        name: str,
        number: int,
        *,
        notes: str | None = None,
        notes_revision: int | None = None,
        add_tags: Sequence[str] = (),
        remove_tags: Sequence[str] = (),
        starred: bool | None = None,
    ) -> TrialDocument:
        """Change notes, tags, star of a trial, as `annotate` does; all its attempts share them."""
        body = _change(notes=notes, notes_revision=notes_revision, starred=starred)
        body |= {"add_tags": list(add_tags), "remove_tags": list(remove_tags)}
        found: TrialDocument = self._send("PATCH", f"/studies/{quote(name)}/trials/{number}", body)
        return found

    def annotate_trials(
        self,
        name: str,
        numbers: Sequence[int],
        *,
        add_tags: Sequence[str] = (),
        remove_tags: Sequence[str] = (),
        starred: bool | None = None,
    ) -> None:
        """Tag or star several trials, all of them or none (at most 1000)."""
        body = _change(starred=starred) | {"trials": list(numbers)}
        body |= {"add_tags": list(add_tags), "remove_tags": list(remove_tags)}
        self._send("POST", f"/studies/{quote(name)}/annotate", body)

    def rename(self, name: str, new: str) -> StudyDocument:
        """Give a study another name; refused (409) while workers serve it."""
        found: StudyDocument = self._send("POST", f"/studies/{quote(name)}/rename", {"name": new})
        return found

    def activity(self, name: str | None = None, *, limit: int = 100, offset: int = 0) -> ActivityPage:
        """Return who changed what, newest first: of one study, or of all and of those that were deleted."""
        path = "/activity" if name is None else f"/studies/{quote(name)}/activity"
        found: ActivityPage = self._get(path, {"limit": limit, "offset": offset})
        return found

    def pause(self, name: str) -> StudyDocument:
        """Let running trials finish; nothing new starts."""
        found: StudyDocument = self._send("POST", f"/studies/{quote(name)}/pause")
        return found

    def stop(self, name: str) -> StudyDocument:
        """Have running trials returned to the queue."""
        found: StudyDocument = self._send("POST", f"/studies/{quote(name)}/stop")
        return found

    def resume(self, name: str, *, trials: int | None = None) -> StudyDocument:
        """Go on; `trials` raises the total of the budget."""
        found: StudyDocument = self._send(
            "POST", f"/studies/{quote(name)}/resume", {} if trials is None else {"trials": trials}
        )
        return found

    def verdict(self, name: str) -> dict[str, Any]:
        """Return the document of `tuner verdict --json`: what may be said of the losses now."""
        found: dict[str, Any] = self._get(f"/studies/{quote(name)}/verdict", {})
        return found

    def confirm(self, name: str, **section: Any) -> StudyDocument:
        """Have the best trials trained again with fresh seeds; `section`: top, seeds, folds, on, baseline, until, …."""
        found: StudyDocument = self._send("POST", f"/studies/{quote(name)}/confirm", section)
        return found

    def trials(self, name: str, **query: str | int | None) -> TrialPage:
        """Return `{"items", "total"}`; `query`: state, loss, sort, order, limit, offset."""
        words = {key: value for key, value in query.items() if value is not None}
        found: TrialPage = self._get(f"/studies/{quote(name)}/trials", words)
        return found

    def iter_trials(self, name: str, **query: str | int | None) -> Iterator[TrialDocument]:
        """Yield every trial, page by page."""
        offset = 0
        while True:
            page = self.trials(name, **{**query, "limit": PAGE, "offset": offset})
            yield from page["items"]
            offset += PAGE
            if offset >= page["total"]:
                return

    def trial(self, name: str, number: int) -> TrialDetail:
        """Return a trial with `history` and `artifacts`."""
        found: TrialDetail = self._get(f"/studies/{quote(name)}/trials/{number}", {})
        return found

    def enqueue(self, name: str, params: Mapping[str, Scalar]) -> int:
        """Have parameters tried next; return the number of the trial."""
        return int(self._send("POST", f"/studies/{quote(name)}/trials", {"params": dict(params)})["number"])

    def prune(self, name: str, number: int) -> TrialDocument:
        """End a running trial at its next report."""
        found: TrialDocument = self._send("POST", f"/studies/{quote(name)}/trials/{number}/prune")
        return found

    def best(self, name: str) -> BestDetail:
        """Return the best trial with its configuration."""
        found: BestDetail = self._get(f"/studies/{quote(name)}/best", {})
        return found

    def export(self, name: str, *, trial: int | None = None, format: str = "yaml") -> str:
        """Return a configuration that stands alone, as text."""
        words = {"format": format} | ({} if trial is None else {"trial": str(trial)})
        return self._bytes(f"/studies/{quote(name)}/export", words).decode()

    def figure(self, name: str, figure: str, **query: str | None) -> FigureDocument:
        """Return a figure as Plotly JSON; `query`: loss, x, y."""
        words = {key: value for key, value in query.items() if value is not None}
        found: FigureDocument = self._get(f"/studies/{quote(name)}/figures/{quote(figure)}", words)
        return found

    def artifact(self, name: str, number: int, file: str) -> bytes:
        """Return a file of a trial."""
        return self._bytes(f"/studies/{quote(name)}/trials/{number}/artifacts/{quote(file)}", {})

    def losses(self) -> list[LossDocument]:
        """Return the catalogue of losses."""
        found: list[LossDocument] = self._get("/losses", {})
        return found

    def datasets(self) -> list[DatasetDocument]:
        """Return the catalogue of data sets."""
        found: list[DatasetDocument] = self._get("/datasets", {})
        return found

    def models(self) -> list[ModelDocument]:
        """Return the catalogue of models."""
        found: list[ModelDocument] = self._get("/models", {})
        return found

    def workers(self) -> list[WorkerDocument]:
        """Return the live workers."""
        found: list[WorkerDocument] = self._get("/workers", {})
        return found

    def wait(self, name: str, *, timeout_s: float | None = None, poll_s: float = 2.0) -> StudyDocument:
        """Wait until a study is done or stopped, and return it. Raises TimeoutError."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            study = self.study(name)
            if study["phase"] in ("done", "stopped"):
                return study
            if until is not None and time.monotonic() > until:
                raise TimeoutError(f"study {name!r} is still {study['phase']} after {timeout_s:g} s")
            time.sleep(poll_s)

    def _get(self, path: str, query: Mapping[str, Any]) -> Any:
        address = f"{path}?{urlencode(query)}" if query else path
        tag, known = self._known.get(address) or (None, None)
        try:
            content, new_tag = self._ask("GET", address, headers={"If-None-Match": tag} if tag else {})
        except ServiceError as error:
            if error.status == 304:
                return known
            raise
        found = json.loads(content)
        if new_tag:
            self._known[address] = (new_tag, found)
        return found

    def _bytes(self, path: str, query: Mapping[str, str]) -> bytes:
        return self._ask("GET", f"{path}?{urlencode(query)}" if query else path)[0]

    def _send(self, method: str, path: str, body: Json | None = None) -> Any:
        content, _ = self._ask(method, path, body=body)
        return json.loads(content) if content else None

    def _ask(
        self, method: str, path: str, *, body: Json | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[bytes, str | None]:
        sent = {"Accept": "application/json", **(headers or {})}
        if self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        payload = None if body is None else json.dumps(body).encode()
        if payload is not None:
            sent["Content-Type"] = "application/json"
        request = Request(f"{self._base}/api/v1{path}", payload, sent, method=method)  # noqa: S310 (http only, see above)
        try:
            with urlopen(request, timeout=self._timeout_s) as answer:  # noqa: S310
                return answer.read(), answer.headers.get("ETag")
        except HTTPError as error:
            with error:
                raise ServiceError(error.code, _error_of(error.read())) from None
        except URLError as error:
            raise RunError(f"the service cannot be reached: {error.reason}.", where=self._base) from error


def _change(**values: Any) -> Json:
    """Return the body of a change: what is None stays as it is."""
    return {key: value for key, value in values.items() if value is not None}


def _error_of(content: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(content)["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
