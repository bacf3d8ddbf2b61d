"""A PostgreSQL of the user's own, for a lab without a database administrator: `tuner db serve`."""
