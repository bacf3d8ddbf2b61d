"""Declarations of the trackers; none of their packages is imported here."""

from dataclasses import dataclass

from tuner.registry import Option, Registry


@dataclass(frozen=True, slots=True)
class TrackerSpec:
    """A tracker: `fn` names its class, `package` what must be installed, by the extra of the same name."""

    name: str
    fn: str
    package: str
    summary: str
    options: tuple[Option, ...] = ()


TRACKERS: Registry[TrackerSpec] = Registry(
    "tracker",
    (
        TrackerSpec(
            "tensorboard",
            "tuner.trackers.tensorboard:TensorBoardTracker",
            "tensorboard",
            "event files in DIR/STUDY/TRIAL",
            (Option("dir", "str", "tensorboard", "Folder of the event files."),),
        ),
        TrackerSpec(
            "mlflow",
            "tuner.trackers.mlflow:MlflowTracker",
            "mlflow",
            "a run for each trial in an experiment",
            (
                Option("uri", "str", None, "Tracking server or database; null: MLFLOW_TRACKING_URI.", nullable=True),
                Option("experiment", "str", None, "Experiment; null: the name of the study.", nullable=True),
            ),
        ),
        TrackerSpec(
            "wandb",
            "tuner.trackers.wandb:WandbTracker",
            "wandb",
            "a run for each trial in a project, in the group of its study",
            (
                Option("project", "str", None, "Project; null: the name of the study.", nullable=True),
                Option(
                    "mode",
                    "str",
                    "offline",
                    "offline: files for `wandb sync`; online needs WANDB_API_KEY where the workers run.",
                    choices=("offline", "online"),
                ),
                Option("dir", "str", ".", "Folder that gets the folder `wandb` of the runs."),
            ),
        ),
    ),
)
