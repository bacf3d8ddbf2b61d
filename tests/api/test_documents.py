"""What the client's types say is what the service answers."""

from types import UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

import pytest
from pydantic import BaseModel

from api import schemas
from tuner import documents

PAIRS = {
    "ObjectiveDocument": schemas.Objective,
    "TrialCounts": schemas.Counts,
    "BestDocument": schemas.Best,
    "BestDetail": schemas.BestDetail,
    "WorkerDocument": schemas.Worker,
    "ConfirmationDocument": schemas.Confirmation,
    "LossTimeDocument": schemas.LossTime,
    "StudyDocument": schemas.Study,
    "TrialDocument": schemas.Trial,
    "TrialPage": schemas.TrialPage,
    "TrialDetail": schemas.TrialDetail,
    "EpochDocument": schemas.Epoch,
    "ArtifactDocument": schemas.Artifact,
    "ActivityEntry": schemas.ActivityEntry,
    "ActivityPage": schemas.ActivityPage,
    "FigureDocument": schemas.Figure,
    "SearchRange": schemas.SearchRange,
    "OptionDocument": schemas.OptionRow,
    "LossDocument": schemas.LossRow,
    "PreparedDocument": schemas.PreparedRow,
    "DatasetDocument": schemas.DatasetRow,
    "ModelDocument": schemas.ModelRow,
}


def form(annotation: object) -> object:
    """A type by its parts; documents under the name that the schemas of the service have."""
    parts = get_args(annotation)
    if get_origin(annotation) in (Union, UnionType):
        return frozenset(map(form, parts))
    if get_origin(annotation) is Literal:
        return frozenset(parts)
    if parts:
        return (get_origin(annotation), *map(form, parts))
    name = getattr(annotation, "__name__", "")
    return PAIRS[name].__name__ if name in PAIRS else name if annotation in PAIRS.values() else annotation


def test_every_document_is_compared() -> None:
    """A type that nothing holds to the service would drift."""
    own = {name for name, value in vars(documents).items() if getattr(value, "__module__", "") == documents.__name__}

    assert own == set(PAIRS)


@pytest.mark.parametrize(("name", "model"), PAIRS.items(), ids=PAIRS)
def test_types_are_those_of_the_service(name: str, model: type[BaseModel]) -> None:
    """The same keys, the same types."""
    ours = get_type_hints(getattr(documents, name))
    theirs = {key: field.annotation for key, field in model.model_fields.items()}

    assert {key: form(hint) for key, hint in ours.items()} == {key: form(hint) for key, hint in theirs.items()}
