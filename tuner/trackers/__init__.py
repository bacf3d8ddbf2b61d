"""Experiment trackers beside the storage: MLflow, Weights & Biases, TensorBoard."""
