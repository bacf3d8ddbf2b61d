"""Which loss, with which options, for my segmentation data: the search, as a service."""

__version__ = "0.2.0"
