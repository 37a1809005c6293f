"""Training: one loop for every strategy, run directories, checkpoints, schedules."""
