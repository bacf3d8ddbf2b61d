"""A study as a document: the survey's table, its figures and its qualitative comparison, in one file."""
