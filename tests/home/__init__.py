"""Exports in the programs that they are for. Run by `make test-home`, in an environment that has those programs."""
