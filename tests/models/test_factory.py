"""The table of models."""

from __future__ import annotations

import types

import tensorflow as tf

from esc_tf.errors import UnknownNameError
from esc_tf.models import build_backbone


class FactoryTest(tf.test.TestCase):
    def test_an_unknown_model_is_named_with_its_neighbour(self) -> None:
        with self.assertRaisesRegex(UnknownNameError, "'se_cn'; did you mean 'se_cnn'"):
            build_backbone(types.SimpleNamespace(name="se_cn"), (32, 32, 1))
