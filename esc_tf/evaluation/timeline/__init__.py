"""Recordings of any length: what a model hears in them over time, as tables and a figure."""
