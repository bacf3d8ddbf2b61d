"""Study files: YAML, the study it describes, the configuration of one trial."""
