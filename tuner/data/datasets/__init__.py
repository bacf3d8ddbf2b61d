"""Data sets by layout."""
