"""Tests of esc_tf.audio."""
