"""Tests of esc_tf.frontends."""
