"""Dynamic batching: requests of several clients in one run of the model."""
