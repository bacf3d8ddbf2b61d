"""Workers: claim a trial, train it, report it."""
