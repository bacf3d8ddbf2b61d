"""The database: studies, the queue of trials, curves and workers. Knows Optuna's tables, never a tensor."""
