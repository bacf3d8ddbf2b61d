"""Files of trials: local folders, remote stores, garbage collection."""
