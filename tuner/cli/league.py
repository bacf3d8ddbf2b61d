"""`league`: losses ranked over several confirmed studies."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli import output
from tuner.cli.help import PanelCommand
from tuner.cli.options import ArtifactsOption, JsonOption, StorageOption, settings_of

if TYPE_CHECKING:
    from tuner.analysis.league import DataSetScores, League
    from tuner.artifacts.local import Artifacts
    from tuner.storage.storage import Storage

_PANEL = "Results"
_FORMS = (".html", ".htm", ".md", ".png")


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    app.command("league", rich_help_panel=_PANEL, cls=PanelCommand)(league)


def league(
    studies: Annotated[
        list[str],
        typer.Argument(metavar="STUDY…", help="Confirmed studies, one for each data set.", show_default=False),
    ],
    path: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write FILE.html, FILE.md or FILE.png.", show_default=False
        ),
    ] = None,
    storage: StorageOption = None,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rank the losses over several confirmed studies, each on another data set."""
    from tuner.analysis.league import rank_losses
    from tuner.artifacts.remote import artifacts_of
    from tuner.cli.stored import open_store
    from tuner.errors import RequestError
    from tuner.report.league_document import league_table

    if path is not None and path.suffix.lower() not in _FORMS:
        raise RequestError(f"{path.name!r} is not FILE.html, FILE.md or FILE.png.", where="-o")
    settings = settings_of(storage, artifacts)
    with open_store(settings.storage) as store:
        files = artifacts_of(settings, owner=store.studies.folder_mark)
        ranked = rank_losses([_scores(store, files, name) for name in dict.fromkeys(studies)])
    if path is not None:
        from tuner.analysis.export import write_export

        replaced = write_export(path, _render(ranked, path.suffix.lower()))
        output.tell(f"{'Replaced' if replaced else 'Wrote'} {path}")
    if as_json:
        output.put_json(ranked.as_dict())
        return
    output.put(ranked.text)
    output.put()
    table = league_table(ranked)
    output.put_table(table.columns, [list(row) for row in table.rows], right=table.columns[1:])  # type: ignore[arg-type]


def _scores(store: "Storage", files: "Artifacts", name: str) -> "DataSetScores":
    """Read one study. Raises NotFoundError where it has no confirmation."""
    from tuner.analysis.confirmation import load_scores, read_confirmation
    from tuner.analysis.leaderboard import leaderboard
    from tuner.analysis.league import DataSetScores
    from tuner.cli.stored import published_defaults, stored_spec

    record, table = store.studies.get(name), load_scores(store, files, name)
    found = read_confirmation(store, name)
    direction = record.objectives[0]["direction"]
    sign = 1.0 if direction == "maximize" else -1.0
    standings = leaderboard(store.queries.trials(name), direction, defaults=published_defaults(stored_spec(record)))
    return DataSetScores(
        study=name,
        fingerprint=record.resources.get("fingerprint"),
        table=table,
        random_cases=found is not None and found.plan.random_cases,
        regrets={
            s.loss: sign * (s.best - s.default) for s in standings if s.best is not None and s.default is not None
        },
        hours_per_loss=record.spec["budget"].get("hours_per_loss"),
    )


def _render(ranked: "League", ending: str) -> str | bytes:
    from tuner.report.league_document import draw_league, league_blocks
    from tuner.report.render import render_html, render_markdown

    if ending == ".png":
        return draw_league(ranked).to_png()
    blocks = league_blocks(ranked)
    return render_markdown(blocks) if ending == ".md" else render_html("Losses over data sets", blocks)
