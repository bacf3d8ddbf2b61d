"""What a study can name, for OpenAPI: losses, data sets and models with their options."""

from typing import Literal

from pydantic import Field

from api.schemas import Document, Scalar


class SearchRange(Document):
    """What of an option is searched when a study does not say otherwise."""

    low: float | None = Field(examples=[0.5])
    high: float | None = Field(examples=[5.0])
    log: bool
    choices: list[Scalar] | None


class OptionRow(Document):
    """One option: its published default, its legal closed interval, and what is searched."""

    name: str = Field(examples=["gamma"])
    type: Literal["float", "int", "bool", "str"] = Field(examples=["float"])
    default: Scalar = Field(examples=[2.0])
    low: float | None = Field(examples=[0.0])
    high: float | None = Field(examples=[10.0])
    choices: list[Scalar] | None
    search: SearchRange | None
    summary: str = Field(examples=["Exponent: how much easy pixels are turned down."])


class LossRow(Document):
    """A loss, as `tuner losses --json` describes it."""

    name: str = Field(examples=["focal"])
    family: Literal["pixel", "region", "boundary", "combination"] = Field(examples=["pixel"])
    survey: bool = Field(description="Whether the survey compares it.")
    options: list[OptionRow]
    paper: str = Field(examples=["Lin et al. 2017"])
    needs: list[str] = Field(description="What it is given beside logits and target.", examples=[["signed_distance"]])
    formula: str
    summary: str
    good_for: str
    bad_for: str
    alone: bool = Field(description="False: it is always base + weight · itself.")


class PreparedRow(Document):
    """Data of a set that was prepared on the machine of the service."""

    fingerprint: str = Field(description="First half of the content's hash.", examples=["9f86d081884c7d65"])
    classes: list[str] = Field(examples=[["background", "aorta", "liver"]])
    frequencies: list[float] = Field(description="Share of the training pixels of each class.")
    cases: int
    samples: int
    validation: int = Field(description="Samples that validate.")
    size: list[int] = Field(examples=[[64, 64]])


class DatasetRow(Document):
    """A data set that a study can name."""

    name: str = Field(examples=["synapse"])
    summary: str
    classes: list[str] | None = Field(description="null: `classes_note` says what decides.")
    classes_note: str | None
    options: list[OptionRow]
    layout: str
    how_to_get: str
    prepared: list[PreparedRow]
    studies: list[str] = Field(description="Studies that use it, newest first.")


class ModelRow(Document):
    """A network that a study can name."""

    name: str = Field(examples=["unet"])
    summary: str
    paper: str
    options: list[OptionRow]
