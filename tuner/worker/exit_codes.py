"""Exit codes of workers, read by whoever started them."""

QUARANTINE_S = 1800.0
"""Seconds after which whoever keeps workers on a device that was quarantined tries it again."""


QUARANTINED = 69
"""Exit code of a worker whose device was quarantined (EX_UNAVAILABLE)."""


REPLACE = 75
"""Exit code of a worker that ended its process over one trial (EX_TEMPFAIL): another one is to take its place."""
