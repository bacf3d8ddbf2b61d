"""The declarations of the networks, by where they come from."""
