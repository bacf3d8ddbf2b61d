"""The section `train` of a study file, and what all sections have in common."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A frozen section of a configuration that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class TrainConfig(Section):
    """How a model is trained."""

    epochs: int = Field(60, ge=1, le=100_000, description="Passes over the training cases.")
    batch_size: int = Field(
        16, ge=1, le=4096, description="Slices (2-D), volumes (3-D) or patches in an optimiser step."
    )
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="adamw, or sgd with Nesterov momentum.")
    lr: float = Field(3e-4, gt=0, le=10, description="Peak learning rate.")
    weight_decay: float = Field(
        1e-4, ge=0, le=1, description="Weight decay (decoupled with adamw); not on biases and norms."
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of sgd, first beta of adamw.")
    schedule: Literal["cosine", "one_cycle", "polynomial", "constant"] = Field(
        "cosine", description="How the learning rate falls over all optimiser steps."
    )
    warmup: float = Field(0.05, ge=0, le=0.5, description="Share of the steps in which the learning rate rises.")
    clip_norm: float | None = Field(12.0, gt=0, le=1e6, description="Largest gradient norm; null: no clipping.")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Autocast type; auto is resolved when the study is created and stored."
    )
    augment: Literal["none", "light", "default"] = Field("default", description="Strength of the augmentation.")
    validate_every: int = Field(1, ge=1, le=1000, description="Epochs from one validation to the next.")
    seed: int | None = Field(None, ge=0, le=2**63 - 1, description="Seed of the training; null: the study's.")
    threads: int | None = Field(
        None, ge=1, le=1024, description="CPU threads; null: cores // workers, resolved when the study is created."
    )
    deterministic: bool = Field(False, description="Bit for bit repeatable on CUDA as well, slower.")
    compile: bool = Field(False, description="torch.compile the model: minutes once, then faster steps.")
    patch: int | list[int] | None = Field(
        None,
        description="Size of the pieces that are trained on, [D, H, W], [H, W] or one number for all axes; "
        "validation slides a window of this size. null: whole samples.",
    )
    patches: int = Field(4, ge=1, le=10_000, description="Patches drawn from every sample in an epoch.")
    foreground: float = Field(
        0.33, ge=0, le=1, description="Share of the patches that hold a voxel of a class drawn among the sample's."
    )
    overlap: float = Field(0.25, ge=0, le=0.9, description="Overlap of neighbouring windows of the size of a patch.")
    entry: str | None = Field(
        None, description="`package.module:function` that trains instead: (config, device, folder) -> epoch metrics."
    )

    @field_validator("patch", mode="plain")
    @classmethod
    def _check_patch(cls, given: Any) -> int | list[int] | None:
        sides = given if isinstance(given, list) and len(given) in (2, 3) else [given]
        whole = all(isinstance(side, int) and not isinstance(side, bool) and 1 <= side <= 4096 for side in sides)
        if given is not None and not whole:
            raise PydanticCustomError(
                "patch", "a patch is [D, H, W], [H, W], or one number for all axes, each from 1 to 4096 pixels"
            )
        return None if given is None else given

    def patch_shape(self, spatial_dims: int) -> tuple[int, ...] | None:
        """Return the size of a patch along each of so many axes; None when whole samples are trained on."""
        if self.patch is None:
            return None
        return (self.patch,) * spatial_dims if isinstance(self.patch, int) else tuple(self.patch)
