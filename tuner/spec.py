"""Old place of `StudySpec` and `load_spec` (0.1.0)."""

from tuner.deprecated import moved

__getattr__ = moved(
    __name__, {"StudySpec": "tuner.config.study:StudySpec", "load_spec": "tuner.config.study:load_spec"}
)
