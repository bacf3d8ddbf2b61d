"""What is searched and how: the space, Optuna's samplers on it, our pruners, and the points that begin a study."""
