"""REST service and dashboard over the storage that `tuner` writes."""
