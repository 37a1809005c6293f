"""Export of trained runs to SavedModel and TFLite. Room kept by the layout; not built yet."""
