"""A small network that begins with some layers of a large one."""

from __future__ import annotations

from typing import Any

import numpy as np

from esc_tf.errors import RequestError
from tests.training.test_fine_tuning import (
    FineTuningTestCase,
    build,
    is_equal,
    read_weights,
)

_LARGE: dict[str, Any] = {"name": "mobilenet_v3", "width": 0.1, "head": {"hidden_units": [8]}}
_SMALL: dict[str, Any] = {"name": "mobilenet_v3", "width": 0.1, "num_blocks": 4, "head": {}}
_PATTERNS = ["stem*", "block*", "se*"]


class InheritanceTest(FineTuningTestCase):
    def small(self, **sections: Any):
        return build(("a", "b"), model=_SMALL, **sections)

    def test_the_layers_named_are_the_sources_and_all_others_fresh(self) -> None:
        donor = build(model=_LARGE, seed=1)
        source = self.save(donor)
        # Another front end may be before it, as it could not with the whole network.
        model = self.small(front_end={"hop_length": 256})
        before = read_weights(model)
        tuning = self.prepare(model, source, inherited=_PATTERNS, freeze_batch_norm=True)
        after, wanted = read_weights(model), read_weights(donor)
        fresh = {"final_conv", "final_bn", "logits"}
        for name, values in after.items():
            taken = before if name in fresh else wanted
            self.assertTrue(is_equal(values, taken[name]), name)
        self.assertRegex(
            tuning.lines[0],
            r"weights from .*source.keras \(SHA-256 [0-9a-f]{12}…\): \d+ layers, stem_conv to "
            r"block4_project_bn; fresh: final_conv, final_bn, logits; the source hears through "
            "another front end",
        )
        kept = {layer.name for layer in tuning.kept_statistics}
        self.assertIn("block4_project_bn", kept)
        self.assertNotIn("final_bn", kept)

    def test_the_first_blocks_compute_what_they_compute_in_the_whole(self) -> None:
        donor = build(model=_LARGE, seed=1)
        model = self.small()
        self.prepare(model, self.save(donor), inherited=_PATTERNS)
        waveform = np.random.default_rng(0).normal(size=(2, 4000)).astype(np.float32)
        mine, theirs = (
            item.compute_activations(waveform, ["block4"])["block4"] for item in (model, donor)
        )
        self.assertAllEqual(mine, theirs)
        self.assertGreater(float(np.std(mine)), 1e-3)

    def test_what_does_not_fit_is_refused_and_nothing_is_changed(self) -> None:
        source = self.save(build(model=_LARGE, seed=1))
        for sections, patterns, words in (
            ({}, ["stem*", "nothing*"], "inherited: 'nothing\\*' matches no layer"),
            ({"model": {"width": 0.4}}, _PATTERNS, "block2_project_conv.filters is 16 here and 8"),
            ({"model": {"num_blocks": 15}}, ["*"], "final_conv.filters is|final_conv: weights"),
        ):
            small = {**_SMALL, "final_expansion": 5, **sections.get("model", {})}
            model = build(("a", "b"), model=small)
            before = read_weights(model)
            with self.assertRaisesRegex(RequestError, words):
                self.prepare(model, source, inherited=patterns)
            for name, values in read_weights(model).items():
                self.assertTrue(is_equal(values, before[name]), name)

    def test_a_layer_that_the_source_has_not_is_named(self) -> None:
        source = self.save(build(model=_SMALL, seed=1))
        model = build(("a", "b"), model=_LARGE)
        with self.assertRaisesRegex(RequestError, "layer block5_expand_conv is not in the source"):
            self.prepare(model, source, inherited=_PATTERNS)
