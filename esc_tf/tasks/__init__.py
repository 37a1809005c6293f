"""Tasks: what a backbone is trained for."""

from esc_tf.tasks.classifier import Classifier, build_classifier, load_classifier
from esc_tf.tasks.losses import build_loss

__all__ = ["Classifier", "build_classifier", "build_loss", "load_classifier"]
