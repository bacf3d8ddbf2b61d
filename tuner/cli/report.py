"""`report`: a study as a document."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli import output
from tuner.cli.help import PanelCommand
from tuner.cli.options import ArtifactsOption, CacheOption, DataRootOption, JsonOption, StorageOption, settings_of

if TYPE_CHECKING:
    from tuner.report.blocks import Block


_PANEL = "Results"
_FORMS = {".html": "html", ".htm": "html", ".md": "markdown"}


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    app.command("report", rich_help_panel=_PANEL, cls=PanelCommand)(report)


def report(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="Studies on the same data, one table.")],
    path: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="FILE.html or FILE.md.", show_default=False)
    ],
    test: Annotated[
        bool, typer.Option("--test", help="Also score the best configuration of each loss on the test cases.")
    ] = False,
    device: Annotated[
        str, typer.Option("--device", metavar="D", help="For --test: auto, cpu, mps or cuda:N.")
    ] = "auto",
    storage: StorageOption = None,
    artifacts: ArtifactsOption = None,
    data_root: DataRootOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a study as a document that opens offline: the survey's table, figures, predictions, how it was made."""
    from tuner.analysis.export import write_export
    from tuner.artifacts.remote import artifacts_of
    from tuner.cli.stored import open_store
    from tuner.report.collect import collect
    from tuner.report.document import compose, worth_testing

    form = _form_of(path)
    settings = settings_of(storage, artifacts, data_root, cache)
    with open_store(settings.storage) as store:
        files = artifacts_of(settings, owner=store.studies.folder_mark)
        material = collect(store, names, files)
        scores = {}
        if test:
            from tuner.report.tables import score_entries

            stored = settings.with_stored(material.first.record.resources)
            entries = worth_testing(material)
            scores = dict(score_entries(material, entries, stored, files, device=device, on_message=output.tell))
        title, blocks = compose(material, store, files, settings.cache, scores)
    text = _render(form, title, blocks)
    replaced = write_export(path, text)
    if as_json:
        output.put_json({"path": str(path), "format": form, "replaced": replaced, "bytes": len(text.encode())})
        return
    output.tell(
        f"{'Replaced' if replaced else 'Wrote'} {path}: {len(material.entries)} trials, {_size(len(text.encode()))}"
    )


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{max(1, round(count / 1e3))} kB"


def _form_of(path: Path) -> str:
    from tuner.errors import RequestError

    form = _FORMS.get(path.suffix.lower())
    if form is None:
        raise RequestError(
            f"a report is written as .html or .md, not as {path.suffix or 'a file without an ending'!r}.",
            hint=f"For example: -o {path.with_suffix('.html').name}",
            where="-o",
        )
    return form


def _render(form: str, title: str, blocks: "Sequence[Block]") -> str:
    if form == "markdown":
        from tuner.report.render import render_markdown

        return render_markdown(blocks)
    from tuner.report.render import render_html

    return render_html(title, blocks)
