"""Export of trained models to SavedModel and TFLite, each file verified in a new process."""
