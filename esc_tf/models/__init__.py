"""Backbones: features → {embedding, named activations}. They know nothing of classes."""

from esc_tf.models.cnn10 import build_cnn10
from esc_tf.models.factory import MODELS, build_backbone
from esc_tf.models.mobilenet_student import build_mobilenet_student
from esc_tf.models.mobilenet_v3 import build_mobilenet_v3
from esc_tf.models.piczak_net import build_piczak_net
from esc_tf.models.se_cnn import build_se_cnn
from esc_tf.models.tfnet import build_tfnet

__all__ = [
    "MODELS",
    "build_backbone",
    "build_cnn10",
    "build_mobilenet_student",
    "build_mobilenet_v3",
    "build_piczak_net",
    "build_se_cnn",
    "build_tfnet",
]
