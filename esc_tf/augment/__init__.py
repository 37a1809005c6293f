"""Augmentation of waveforms, features and batches; random draws are apart from their use."""

from esc_tf.augment.features import apply_feature_augment, build_feature_draw
from esc_tf.augment.mixup import build_batch_mix, build_waveform_mixup, mix_rows
from esc_tf.augment.outliers import build_batch_augment
from esc_tf.augment.waveform import build_waveform_augment

__all__ = [
    "apply_feature_augment",
    "build_batch_augment",
    "build_batch_mix",
    "build_feature_draw",
    "build_waveform_augment",
    "build_waveform_mixup",
    "mix_rows",
]
