"""Notes, tags, stars, archive, rename and the log of who did what, over REST and on the pages."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.notes_html import render_notes
from tests.api.browser import needed_chromium, opened, wait_until
from tests.api.test_contract import STUDY, V1, error_of
from tuner.storage.storage import Storage

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
    (
        "POST",
        "/studies/{name}/annotate",
        "fresh",
        {"trials": [0, 1, 1], "starred": True},
        "annotate",
        "trials 0, 1: star",
    ),
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
    """With who did it; of a study that is deleted only the deletion is left."""
    running = writer.get(f"{STUDY}/trials?state=RUNNING").json()["items"][0]["number"]
    failed = [r["number"] for r in writer.get(f"{STUDY}/trials?state=FAIL").json()["items"] if r["reason"] == "error"]
    for method, path, name, body, action, detail in WRITES:
        given = {"trials": failed[:1]} if path.endswith("/retry") else body
        answer = writer.request(method, V1 + path.format(name=name, running=running), json=given)
        if path.endswith("/confirm") and answer.status_code == 409:
            continue  # nothing is queued, so nothing was written
        assert answer.status_code < 300, answer.text
        entry = writer.get(f"{V1}/activity?limit=1").json()["items"][0]
        shown = "later" if action == "rename" else name
        assert (entry["study"], entry["action"], entry["actor"]) == (shown, action, "anonymous")
        assert entry["detail"].startswith(detail)
    left = writer.get(f"{V1}/activity?limit=1000").json()["items"]
    assert [e["action"] for e in left if e["study"] in ("fresh", "later")] == ["delete"]

    document = writer.get("/openapi.json").json()["paths"]
    writes = {(m.upper(), p) for p, of in document.items() for m in of if m in ("post", "patch", "put", "delete")}
    writes.remove(("DELETE", V1 + "/sessions/{id}"))  # of no study
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
        assert writer.post(f"{V1}/studies/fresh/rename", json={"name": wrong}).status_code in (409, 422)
    answer = writer.post(f"{V1}/studies/fresh/rename", json={"name": "calm"})

    assert (answer.status_code, answer.json()["name"]) == (200, "calm")
    assert answer.headers["Location"] == f"{V1}/studies/calm"
    assert writer.get(f"{V1}/studies/fresh").status_code == 404
    assert writer.get("/studies/calm/settings", headers=PAGE).text.count("it was fresh") == 1
    assert "name: calm" in writer.get("/studies/calm/settings", headers=PAGE).text


def test_the_log_is_paged_on_the_settings_page(writer: httpx.Client, folder: Path) -> None:
    """Newest first; what is written afterwards is there at once."""
    with Storage.open(f"sqlite:///{folder / 'tuner.db'}") as store:
        for i in range(45):
            store.activity.record("organs", "annotate", actor="ada", detail=f"+tag-{i}")
    first, last = (writer.get(f"/studies/organs/settings?activity={at}", headers=PAGE).text for at in (0, 40))

    assert ("+tag-44<" in first, "+tag-0<" in first) == (True, False)
    assert ("+tag-44<" in last, "+tag-0<" in last) == (False, True)
    writer.patch(STUDY, json={"add_tags": ["newest"]})
    assert "+newest" in writer.get("/studies/organs/settings?activity=0", headers=PAGE).text


HOSTILE = """<script>alert(1)</script> <img src=x onerror=alert(2)> [a](javascript:alert(3))
![b](https://elsewhere.example/p.png)
[c](https://example.org "x\" onmouseover=\"alert(4)") <a href=x onclick=alert(5)>d</a> [e](&#106;avascript:alert(6))
[f](data:text/html;base64,PHNjcmlwdD4=) ![g](//elsewhere.example/q.png) ![h](/static/icon.svg)
<style>*{display:none}</style>
"""


def test_notes_can_do_nothing() -> None:
    """No markup of their own, no scripts behind links, no pictures of other hosts."""
    html = str(render_notes(HOSTILE))
    attributes = re.findall(r"<\w+([^>]*)>", html)

    assert not re.search(r"<(script|style|iframe|object|svg|form)", html)
    assert not [
        found for found in attributes if re.search(r"\bon\w+=|javascript:|data:|style=", found.split("title=")[0])
    ]
    assert re.findall(r'<img src="([^"]*)"', html) == ["/static/icon.svg"]
    assert 'href="https://elsewhere.example/p.png"' in html
    assert 'rel="noopener noreferrer nofollow"' in html
    assert "<h3>Title</h3>" in str(render_notes("# Title"))
    assert '<td align="right">1</td>' in str(render_notes("| a |\n|--:|\n| 1 |"))
    assert str(render_notes("~~no~~ **yes**")).strip() == "<p><s>no</s> <strong>yes</strong></p>"


@pytest.mark.browser
def test_notes_tags_and_stars_in_the_page(writer: httpx.Client) -> None:
    """Edited where they stand, by the keyboard; what another one wrote meanwhile is shown and not lost."""
    needed_chromium()
    with opened(str(writer.base_url)) as (page, watch):
        page.goto("/studies/organs")
        page.focus("[data-edit]")
        page.keyboard.press("Enter")
        page.keyboard.type(HOSTILE.replace("\n", " "))
        writer.patch(STUDY, json={"notes": "theirs", "notes_revision": 0})
        page.keyboard.press("Control+Enter")
        page.wait_for_selector("[data-theirs] pre:has-text('theirs')")
        page.click("#notes [type=submit]")
        page.wait_for_selector(".prose img")
        page.click("#head .star")
        page.wait_for_selector("#head .star[aria-pressed=true]")
        page.click("#head [data-dialog=tag]")
        page.fill("#tag [name=add_tags]", "first, second")
        page.keyboard.press("Enter")
        page.wait_for_selector("#head .tag:has-text('second')")
        page.click("[aria-label='Remove the tag first']")
        wait_until(page, "!document.querySelector('#head').textContent.includes('first')")

        page.goto("/studies/organs/trials?sort=number&order=asc")
        page.focus("[data-pick='1']")
        page.keyboard.press("Space")
        page.focus("[data-pick='2']")
        page.keyboard.press("Space")
        page.focus("[data-act=star]")
        page.keyboard.press("Enter")
        page.wait_for_selector("tr[data-trial='2'][data-starred]")
        page.focus("[data-act=tag]")
        page.keyboard.press("Enter")
        page.keyboard.type("odd")
        page.keyboard.press("Enter")
        wait_until(page, "!document.querySelector('#tag-trials').open")
        page.click("[data-starred-only]")
        wait_until(page, "document.querySelectorAll('tr[data-trial]').length === 2")
        assert "where=starred" in page.url
        page.reload()
        page.wait_for_selector("[data-column=tags]")
        assert page.inner_text("tr[data-trial='1']").count("odd") == 1

        conflict = "Failed to load resource: the server responded with a status of 409 (Conflict)"
        assert ([error for error in watch.errors if error != conflict], watch.strangers) == ([], [])
    study = writer.get(STUDY).json()
    assert (study["tags"], study["starred"], study["notes_revision"]) == (["second"], True, 2)
    assert [writer.get(f"{STUDY}/trials/{i}").json()["tags"] for i in (1, 2)] == [["odd"], ["odd"]]
