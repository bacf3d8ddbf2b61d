"""Metrics of segmentations: what is measured (`catalogue`), from counts (`overlap`), from surfaces (`surface`)."""
