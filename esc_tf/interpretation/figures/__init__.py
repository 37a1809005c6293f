"""Figures of what the inside of a model stands for."""
