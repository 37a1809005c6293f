"""Interpretation of hidden layers. Reads models; nothing imports it. Not built yet."""
