"""A small network that begins with some layers of a large one."""

from __future__ import annotations

from typing import Any

import numpy as np

from esc_tf.errors import RequestError
from esc_tf.frontends.sublayers import list_sublayers
from esc_tf.training.fine_tuning import unfreeze
from tests.config.base import problems_with
from tests.tiny import TINY
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


_MEL: dict[str, Any] = {**TINY["front_end"], "name": "mel_init"}


class FrontEndTest(FineTuningTestCase):
    """Layers inside a learnable front end, which patterns with a slash address."""

    def moved(self, seed: int = 1) -> Any:
        """A model whose front end is no more what its settings make of it."""
        model = build(seed=seed, front_end=_MEL)
        rng = np.random.default_rng(seed)
        for layer in list_sublayers(model.front_end):
            layer.set_weights(
                [value + rng.normal(size=value.shape) for value in layer.get_weights()]
            )
        return model

    def test_a_whole_network_takes_its_front_end_along(self) -> None:
        donor = self.moved()
        # Which stages are trained has nothing to do with what they hold.
        model = build(front_end={**_MEL, "trained": ["mel"]})
        tuning = self.prepare(model, self.save(donor))
        self.assertIn(": front end, backbone, head_dense1, logits; nothing is", tuning.lines[0])
        self.assertTrue(is_equal(model.front_end.get_weights(), donor.front_end.get_weights()))

    def test_everything_behind_another_front_end(self) -> None:
        donor = build(seed=1)
        model = build(front_end=_MEL)
        began = model.front_end.get_weights()
        tuning = self.prepare(model, self.save(donor), inherited=["*"])
        self.assertIn("; fresh: front_end/dft, front_end/mel; the source", tuning.lines[0])
        self.assertTrue(is_equal(model.front_end.get_weights(), began))
        after, wanted = read_weights(model), read_weights(donor)
        self.assertTrue(all(is_equal(values, wanted[name]) for name, values in after.items()))

    def test_a_head_of_other_classes_stays_fresh(self) -> None:
        donor = build(("a", "b", "c"), seed=1)
        model = build(("a", "b", "d"), front_end=_MEL)
        before = read_weights(model)
        self.prepare(model, self.save(donor), inherited=["*"])
        after, wanted = read_weights(model), read_weights(donor)
        for name, values in after.items():
            taken = before if name == "logits" else wanted
            self.assertTrue(is_equal(values, taken[name]), name)

    def test_single_layers_of_a_front_end(self) -> None:
        donor, model = self.moved(), build(front_end=_MEL)
        began = model.front_end.mel.get_weights()
        self.prepare(model, self.save(donor), inherited=["front_end/d*", "block1*"])
        self.assertTrue(
            is_equal(model.front_end.dft.get_weights(), donor.front_end.dft.get_weights())
        )
        self.assertTrue(is_equal(model.front_end.mel.get_weights(), began))
        with self.assertRaisesRegex(RequestError, "layer front_end/dft is not in the source"):
            self.prepare(model, self.save(build()), inherited=["front_end/*"])

    def test_a_star_ends_at_a_slash(self) -> None:
        model = build(front_end=_MEL)
        frozen = {layer.name for layer in self.prepare(model, None, frozen=["*"]).frozen}
        self.assertEqual(frozen, set(read_weights(model)))
        model = build(front_end=_MEL)
        tuning = self.prepare(model, None, trained=["front_end/mel", "logits"])
        paths = [variable.path for variable in model.trainable_variables]
        self.assertEqual(paths, ["mel/kernel", "logits/kernel", "logits/bias"])
        unfreeze(tuning)
        self.assertIn("dft/kernel", [variable.path for variable in model.trainable_variables])

    def test_what_a_front_ends_settings_hold_fast_stays_so(self) -> None:
        model = build(front_end={**_MEL, "trained": ["mel"]})
        unfreeze(self.prepare(model, None, frozen=["front_end/*"]))
        paths = [variable.path for variable in model.front_end.trainable_variables]
        self.assertEqual(paths, ["mel/kernel"])

    def test_frozen_and_trained_exclude_each_other(self) -> None:
        (problem,) = problems_with("recipe.fine_tuning={source: a, frozen: [x], trained: [y]}")
        self.assertEqual(
            problem, "recipe.fine_tuning: frozen and trained exclude each other; say one of them"
        )
