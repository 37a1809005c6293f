"""Figures of what the inside of a model stands for."""

from esc_tf.interpretation.figures.all_figures import draw_figures

__all__ = ["draw_figures"]
