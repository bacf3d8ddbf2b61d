"""One training: a generator of epoch reports. Knows neither Optuna nor a database."""
