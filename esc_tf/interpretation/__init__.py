"""Interpretation of hidden layers. Reads models; commands alone import it."""
