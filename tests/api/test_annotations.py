"""Notes, tags, stars, archive, rename and the log of who did what, over REST and on the pages."""

from typing import Any

import httpx
import pytest

from tests.api.test_contract import STUDY, V1, error_of

PAGE = {"Accept": "text/html"}


def test_notes_of_two_people_are_not_lost(writer: httpx.Client) -> None:
    """Who wrote on notes that are others now is told so; tags of both are kept, whoever came first."""
    first = writer.patch(STUDY, json={"notes": "Mine.", "notes_revision": 0, "add_tags": ["a"], "starred": True})
    second = writer.patch(STUDY, json={"notes": "Yours.", "notes_revision": 0, "add_tags": ["b"]})
    third = writer.patch(STUDY, json={"add_tags": ["b"], "remove_tags": ["a"]})

    assert (first.json()["notes"], first.json()["notes_revision"]) == ("Mine.", 1)
    assert second.status_code == 409
    assert "revision 1" in error_of(second)["message"]
    assert (third.json()["tags"], third.json()["notes"], third.json()["starred"]) == (["b"], "Mine.", True)
    assert writer.patch(STUDY, json={"notes": "No revision."}).status_code == 422
    assert writer.patch(STUDY, json={"tags": ["a"]}).status_code == 422


def test_trials_are_found_by_what_was_written(writer: httpx.Client) -> None:
    """Over REST, and by the address of the table and of every figure."""
    assert writer.post(f"{STUDY}/annotate", json={"trials": [0, 3], "add_tags": ["odd"]}).json() == {"trials": 2}
    writer.patch(f"{STUDY}/trials/3", json={"notes": "The *liver* is wrong", "notes_revision": 0, "starred": True})
    assert writer.post(f"{STUDY}/annotate", json={"trials": [0, 9999], "starred": True}).status_code == 404

    def numbers(query: str) -> list[int]:
        return [row["number"] for row in writer.get(f"{STUDY}/trials?{query}").json()["items"]]

    assert numbers("tag=odd") == [0, 3]
    assert numbers("starred=true") == numbers("text=LIVER") == [3]
    assert len(numbers("starred=false")) == writer.get(STUDY).json()["trials"]["total"] - 1
    rows = writer.get("/studies/organs/trials/rows?where=tag=odd&where=starred=yes&columns=tags,notes", headers=PAGE)
    assert rows.text.count("data-trial=") == 1
    assert "The *liver* is wrong" in rows.text
    assert writer.get("/studies/organs/trials?where=starred=maybe", headers=PAGE).status_code == 422
    table = writer.get(f"{STUDY}/figures/history?format=table&where=tag=odd").json()
    assert {row[0] for row in table["rows"]} <= {0, 3}


def test_archived_studies_leave_the_list(writer: httpx.Client) -> None:
    """A filter shows them; nothing of them is begun before they are taken back."""
    refused = writer.patch(STUDY, json={"archived": True})
    assert refused.status_code == 409
    assert writer.patch(f"{V1}/studies/rested", json={"archived": True}).json()["archived"] is True

    def names(query: str = "") -> set[str]:
        return {study["name"] for study in writer.get(f"{V1}/studies{query}").json()}

    assert "rested" not in names()
    assert names("?archived=only") == {"rested"}
    assert names("?archived=include") == {"rested", *names()}
    answer = writer.post(f"{V1}/studies/rested/resume")
    assert (answer.status_code, "archived" in error_of(answer)["message"]) == (409, True)
    assert ">rested</a>" not in writer.get("/", headers=PAGE).text
    assert ">rested</a>" in writer.get("/?show=archived", headers=PAGE).text
    writer.patch(f"{V1}/studies/rested", json={"archived": False})
    assert writer.post(f"{V1}/studies/rested/resume").status_code == 200


WRITES: list[tuple[str, str, str, dict[str, Any] | None, str, str]] = [
    ("POST", "/studies", "new", {"name": "new", "dataset": "phantom", "budget": {"trials": 3}}, "create", "3 trials"),
    ("POST", "/studies/{name}/pause", "fresh", None, "pause", ""),
    ("POST", "/studies/{name}/resume", "fresh", {"trials": 22}, "resume", "22 trials"),
    ("POST", "/studies/{name}/budget", "fresh", {"trials": 23}, "raise budget", "23 trials"),
    ("POST", "/studies/{name}/stop", "fresh", None, "stop", ""),
    ("POST", "/studies/{name}/trials", "fresh", {"params": {"loss": "dice"}}, "enqueue", "trial "),
    ("POST", "/studies/{name}/annotate", "fresh", {"trials": [0, 1], "starred": True}, "annotate", "trials 0, 1: star"),
    ("PATCH", "/studies/{name}/trials/2", "fresh", {"remove_tags": ["a"]}, "annotate", "trial 2: −a"),
    ("PATCH", "/studies/{name}", "fresh", {"archived": True}, "archive", ""),
    ("PATCH", "/studies/{name}", "fresh", {"archived": False}, "unarchive", ""),
    ("POST", "/studies/{name}/rename", "fresh", {"name": "later"}, "rename", "it was fresh"),
    ("DELETE", "/studies/{name}", "later", None, "delete", ""),
    ("POST", "/studies/{name}/trials/{running}/prune", "organs", None, "prune", "trial "),
    ("POST", "/studies/{name}/retry", "organs", {"trials": []}, "retry", "trial"),
    ("POST", "/studies/{name}/confirm", "goals", {"seeds": 2}, "confirm", "seeds 2"),
]


def test_every_write_is_recorded(writer: httpx.Client) -> None:
    """With who did it, newest first; the deletion of a study outlives it."""
    running = writer.get(f"{STUDY}/trials?state=RUNNING").json()["items"][0]["number"]
    failed = [r["number"] for r in writer.get(f"{STUDY}/trials?state=FAIL").json()["items"] if r["reason"] == "error"]
    for method, path, name, body, _, _ in WRITES:
        given = {"trials": failed[:1]} if path.endswith("/retry") else body
        answer = writer.request(method, V1 + path.format(name=name, running=running), json=given)
        assert answer.status_code < 300 or path.endswith("/confirm"), answer.text
    found = writer.get(f"{V1}/activity?limit=1000").json()
    entries = [(e["study"], e["action"], e["actor"]) for e in found["items"]][::-1]

    wanted = [("later" if action == "rename" else name, action, "anonymous") for _, _, name, _, action, _ in WRITES]
    assert [entry for entry in entries if entry in wanted] == [w for w in wanted if w in entries]
    assert set(wanted) - set(entries) <= {("goals", "confirm", "anonymous")}
    document = writer.get("/openapi.json").json()["paths"]
    writes = {(m.upper(), p) for p, of in document.items() for m in of if m in ("post", "patch", "put", "delete")}
    tested = {
        (m, V1 + p.replace("{running}", "{number}").replace("trials/2", "trials/{number}")) for m, p, *_ in WRITES
    }
    assert writes == tested, "a route that writes is entered here, and records what it does"
    mine = writer.get(f"{STUDY}/activity").json()
    assert {entry["action"] for entry in mine["items"]} == {"prune", "retry"}
    assert writer.get(f"{V1}/studies/later/activity").status_code == 404
    tag = writer.get(f"{STUDY}/activity").headers["ETag"]
    assert writer.get(f"{STUDY}/activity", headers={"If-None-Match": tag}).status_code == 304


def test_a_renamed_study_keeps_its_files(writer: httpx.Client) -> None:
    """Refused while workers are at it; afterwards the old address is a 404 and the new one has everything."""
    assert writer.post(f"{STUDY}/rename", json={"name": "organs-2"}).status_code == 409
    for wrong in ("a/b", "", "goals"):
        assert writer.post(f"{V1}/studies/rested/rename", json={"name": wrong}).status_code in (409, 422)
    answer = writer.post(f"{V1}/studies/rested/rename", json={"name": "calm"})

    assert (answer.status_code, answer.json()["name"]) == (200, "calm")
    assert answer.headers["Location"] == f"{V1}/studies/calm"
    assert writer.get(f"{V1}/studies/rested").status_code == 404
    assert writer.get("/studies/calm/settings", headers=PAGE).text.count("it was rested") == 1
    assert "name: calm" in writer.get("/studies/calm/settings", headers=PAGE).text


@pytest.mark.parametrize("page", [1, 3])
def test_the_log_is_paged_on_the_settings_page(writer: httpx.Client, page: int) -> None:
    """Newest first; what is written afterwards is there at once."""
    for i in range(45):
        writer.patch(STUDY, json={"add_tags": [f"tag-{i}"]})
    text = writer.get(f"/studies/organs/settings?activity={20 * (page - 1)}", headers=PAGE).text

    assert ("+tag-44" in text) == (page == 1)
    assert ("+tag-0<" in text) == (page == 3)
