from tuner import losses as losses
from tuner.client import Client as Client
from tuner.errors import TunerError as TunerError
from tuner.study import Study as Study
from tuner.study import load_study as load_study
from tuner.study import run_study as run_study

__version__: str
__all__ = ["Client", "Study", "TunerError", "__version__", "load_study", "losses", "run_study"]
