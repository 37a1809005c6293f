"""Weights of published models: read from their files, put strictly where they belong."""
