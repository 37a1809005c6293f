"""Measuring classifiers: how well they do, and what they cost."""
