"""Old place of the storage (0.1.0): `tuner.storage`."""
