"""Backbones: features → {embedding, named activations}. They know nothing of classes."""

from esc_tf.models.factory import MODELS, build_backbone
from esc_tf.models.se_cnn import build_se_cnn

__all__ = ["MODELS", "build_backbone", "build_se_cnn"]
