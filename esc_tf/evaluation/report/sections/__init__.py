"""The sections of a run's report, each from the run's files and what its model says."""
