"""Fine-tuning: what is taken from the source, and which layers a pattern means."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.config import build_experiment
from esc_tf.config.loading import merge
from esc_tf.config.recipe import FineTuningConfig
from esc_tf.errors import CheckpointError, RequestError
from esc_tf.tasks.classifier import Classifier, build_classifier
from esc_tf.training.fine_tuning import (
    FineTuning,
    find_source,
    keep_statistics,
    prepare_fine_tuning,
    unfreeze,
)
from esc_tf.training.run_directory import RunDirectory
from tests.config.base import problems_with
from tests.tiny import TINY, tiny_experiment

_THREE = ("one", "two", "three")
_MOBILENET: dict[str, Any] = {"name": "mobilenet_v3", "width": 0.1, "head": {"hidden_units": [8]}}


def build(labels: tuple[str, ...] = _THREE, seed: int = 0, **sections: Any) -> Classifier:
    keras.utils.set_random_seed(seed)
    return build_classifier(build_experiment(merge(TINY, sections)), labels)


def read_weights(model: Classifier) -> dict[str, list[np.ndarray]]:
    parts = (model.backbone, model.head)
    return {
        layer.name: layer.get_weights() for part in parts for layer in part.layers if layer.weights
    }


def is_equal(mine: list[np.ndarray], theirs: list[np.ndarray]) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(mine, theirs, strict=True))


class FineTuningTestCase(tf.test.TestCase, parameterized.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp())

    def save(self, model: Classifier) -> str:
        # Batch statistics as no fresh model has them.
        rng = np.random.default_rng(0)
        for weight in model.backbone.non_trainable_variables:
            if "moving" in weight.path:
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        path = self.folder / "source.keras"
        model.save(path)
        return str(path)

    def prepare(self, model: Classifier, source: str | None, **options: Any) -> FineTuning:
        config = FineTuningConfig(source=source or "none.keras", **options)
        return prepare_fine_tuning(model, config, find_source(config.source) if source else None)


class WeightsTest(FineTuningTestCase):
    def test_other_classes_take_all_but_the_logits(self) -> None:
        donor = build(_THREE, seed=1)
        source = self.save(donor)
        model = build(("a", "b"))
        before = read_weights(model)
        tuning = self.prepare(model, source)
        after, wanted = read_weights(model), read_weights(donor)
        for name in wanted.keys() - {"logits"}:
            self.assertTrue(is_equal(after[name], wanted[name]), name)
        self.assertTrue(is_equal(after["logits"], before["logits"]))
        self.assertRegex(
            tuning.lines[0],
            r"weights from .*source.keras \(SHA-256 [0-9a-f]{12}…\): backbone, head_dense1; "
            r"fresh: logits \(its 3 classes are not these 2\)",
        )
        self.assertIsNone(tuning.rate_factors)
        # The same number of other names is another set of classes too.
        other = build(("one", "three", "two"))
        self.assertIn("fresh: logits", self.prepare(other, source).lines[0])

    def test_the_same_classes_take_everything(self) -> None:
        donor = build(seed=1, model={"head": {"dropout": 0.1}})
        model = build()
        tuning = self.prepare(model, self.save(donor))
        self.assertIn("nothing is fresh", tuning.lines[0])
        waveform = np.random.default_rng(0).normal(size=(2, 4000)).astype(np.float32)
        self.assertAllEqual(model(waveform)["logits"], donor(waveform)["logits"])

    def test_another_head_takes_the_backbone_alone(self) -> None:
        donor = build(seed=1, model={"head": {"hidden_units": [32, 16]}})
        model = build()
        before = read_weights(model)
        tuning = self.prepare(model, self.save(donor))
        after, wanted = read_weights(model), read_weights(donor)
        for name, values in after.items():
            taken = before if name in ("head_dense1", "logits") else wanted
            self.assertTrue(is_equal(values, taken[name]), name)
        self.assertIn("fresh: head_dense1, logits (its head is another one)", tuning.lines[0])

    def test_another_kind_of_head_takes_the_backbone_alone(self) -> None:
        source = self.save(build(model=_MOBILENET, seed=1))
        fully_convolutional = {**_MOBILENET, "head": {"kind": "fully_convolutional"}}
        model = build(model=fully_convolutional)
        tuning = self.prepare(model, source)
        self.assertIn("fresh: logits_conv, logits_bn (its head is another one)", tuning.lines[0])
        again = build(model=fully_convolutional, seed=2)
        self.assertIn("nothing is fresh", self.prepare(again, self.save(model)).lines[0])

    def test_length_precision_and_dropout_may_differ(self) -> None:
        donor = build(seed=1, audio={"duration_s": 1.0}, front_end={"num_frames": 50})
        model = build(distribution={"precision": "mixed_bfloat16"}, model={"head": {"dropout": 0}})
        self.prepare(model, self.save(donor))
        self.assertTrue(is_equal(model.backbone.get_weights(), donor.backbone.get_weights()))

    @parameterized.parameters(
        ({"front_end": {"hop_length": 64}}, [r"front_end.hop_length is 128 here and 64 in the"]),
        ({"audio": {"sample_rate_hz": 4000}, "front_end": {"fmax_hz": 2000.0}},
         [r"front_end.sample_rate_hz is 8000 here and 4000 in", r"front_end.fmax_hz is"]),
        ({"model": {"block_filters": [8, 12]}},
         [r"block2_conv1.filters is 16 here and 12 in the source"]),
        ({"model": {"block_filters": [8]}}, [r"layers are here alone: block2_conv1, block2_bn1"]),
        ({"model": {"convs_per_block": 2}}, [r"in the source alone: block1_conv2, block1_bn2"]),
        ({"model": _MOBILENET},
         [r"\d layers are here alone: block1_", r"\d layers are in the source alone: stem_pad, "]),
    )  # fmt: skip
    def test_another_network_or_front_end_is_refused(
        self, sections: dict[str, Any], expected: list[str]
    ) -> None:
        if "block_filters" in sections.get("model", {}):
            sections = merge(sections, {"model": {"squeeze_excitation_blocks": []}})
        source = self.save(build(**sections))
        model = build(model={"squeeze_excitation_blocks": []})
        before = read_weights(model)
        with self.assertRaises(RequestError) as caught:
            self.prepare(model, source)
        for pattern in expected:
            self.assertRegex(str(caught.exception), pattern)
        for name, values in read_weights(model).items():
            self.assertTrue(is_equal(values, before[name]), name)

    def test_of_many_differences_the_first_are_told(self) -> None:
        source = self.save(build(model={**_MOBILENET, "width": 0.2}))
        with self.assertRaises(RequestError) as caught:
            self.prepare(build(model=_MOBILENET), source)
        self.assertLen(caught.exception.problems, 9)
        self.assertRegex(
            caught.exception.problems[1],
            r"block2_depthwise_conv: weights of \[\[3, 3, 8, 1\]\] here and \[\[3, 3, 16, 1\]\] in",
        )
        self.assertRegex(
            caught.exception.problems[-1], r"source: \d+ more differences of this kind"
        )

    def test_a_source_that_is_not_there_or_no_model(self) -> None:
        for source, words in (
            (self.folder / "none.keras", "no such file; name a .keras file"),
            (self.folder, "holds no model.keras"),
        ):
            with self.assertRaisesRegex(RequestError, words):
                find_source(str(source))
        (self.folder / "text.keras").write_text("text")
        with self.assertRaisesRegex(CheckpointError, "damaged or not a .keras file"):
            self.prepare(build(), str(self.folder / "text.keras"))


class LayerTest(FineTuningTestCase):
    def test_patterns_are_globs_over_layers_with_weights(self) -> None:
        model = build(model=_MOBILENET)
        tuning = self.prepare(
            model,
            None,
            frozen=["stem*", "block[1-3]_*", "se4_*"],
            learning_rates={"*": 0.1, "block1[0-5]_*": 0.5, "logits": 2.0},
            freeze_batch_norm=True,
        )
        frozen = {layer.name for layer in tuning.frozen}
        self.assertContainsSubset({"stem_conv", "stem_bn", "block3_project_bn"}, frozen)
        self.assertContainsSubset({"se4_dense1", "se4_dense2"}, frozen)
        self.assertNoCommonElements(frozen, {"block4_project_conv", "block10_expand_conv"})
        self.assertEqual(
            [layer for layer in model.backbone.layers if not layer.trainable], tuning.frozen
        )
        # Of several patterns the last one counts.
        by_path = dict(
            zip([v.path for v in model.trainable_variables], tuning.rate_factors, strict=True)
        )
        self.assertNotIn("stem_conv/kernel", by_path)
        self.assertEqual(by_path["block4_project_conv/kernel"], 0.1)
        self.assertEqual(by_path["block10_expand_bn/gamma"], 0.5)
        self.assertEqual(by_path["se5_dense1/bias"], 0.1)
        self.assertEqual(by_path["logits/bias"], 2.0)
        self.assertEqual(by_path["head_dense1/kernel"], 0.1)
        self.assertRegex(
            tuning.lines[-1],
            # At this width blocks 1 to 4 expand nothing: 2 + 3 * 4 + 2 layers, 2 + 15 * 2 + 11
            # batch norms.
            r"fine-tuning: 16 of 104 layers with weights are frozen, 848 parameters; \* learns "
            r"at 0.1 of the rate; .*; 43 batch norms keep their statistics",
        )
        unfreeze(tuning)
        self.assertTrue(all(layer.trainable for layer in model.backbone.layers))

    @parameterized.parameters(
        ({"frozen": ["block[1-"]}, r"frozen: 'block\[1-' matches no layer with weights"),
        ({"frozen": ["blok1_*"]}, "'blok1_\\*' matches no layer with weights; did you mean 'block"),
        ({"learning_rates": {"logit": 0.1}}, "learning_rates: 'logit' matches .*'logits'"),
        ({"frozen": ["head_dropout"]}, "'head_dropout' matches no layer with weights"),
        ({"frozen": ["*"]}, "frozen: leaves no layer to train"),
        ({"frozen": ["block1*"], "learning_rates": {"block1_conv?": 0.1}},
         r"learning_rates: 'block1_conv\?' matches frozen layers alone"),
    )  # fmt: skip
    def test_patterns_that_do_nothing_are_refused(
        self, options: dict[str, Any], words: str
    ) -> None:
        model = build()
        with self.assertRaisesRegex(RequestError, words):
            self.prepare(model, None, **options)
        self.assertTrue(all(layer.trainable for layer in model.backbone.layers))

    def test_all_such_patterns_come_at_once(self) -> None:
        with self.assertRaises(RequestError) as caught:
            self.prepare(build(), None, frozen=["a", "b"], learning_rates={"c": 1.0})
        self.assertLen(caught.exception.problems, 3)

    def test_nothing_configured(self) -> None:
        self.assertEqual(prepare_fine_tuning(build(), None, None), FineTuning())

    def test_statistics_are_kept_while_inside_and_the_layers_are_as_before(self) -> None:
        layer = keras.layers.BatchNormalization()
        values = tf.random.stateless_normal([64, 3], [1, 2]) + 4.0
        layer.build(values.shape)
        fresh = layer(values, training=False)
        with keep_statistics([layer]):
            with tf.GradientTape() as tape:
                inside = layer(values, training=True)
                loss = tf.reduce_sum(inside**2)
            gradients = tape.gradient(loss, layer.trainable_variables)
            self.assertAllEqual(inside, fresh)
            self.assertAllEqual(layer.moving_mean, [0.0] * 3)
            self.assertLen([g for g in gradients if g is not None], 2)
        self.assertNotIn("call", vars(layer))
        self.assertNotAllClose(layer(values, training=True), fresh)
        self.assertNotAllClose(layer.moving_mean, [0.0] * 3)


# --- configuration


def test_the_section_is_checked_without_a_network() -> None:
    (problem,) = problems_with("recipe.fine_tuning={source: a.keras, freezed: [x]}")
    assert problem.startswith("recipe.fine_tuning.freezed: unknown key; did you mean 'frozen'?")
    (problem,) = problems_with("recipe.fine_tuning={frozen: ['stem*']}")
    assert problem.startswith("recipe.fine_tuning: frozen needs a source; random weights would")
    (problem,) = problems_with(
        "recipe.fine_tuning={source: a, frozen: [x], learning_rates: {x: 0.1}}"
    )
    assert "learning_rates and frozen both hold 'x'" in problem
    (problem,) = problems_with("recipe.fine_tuning={source: a, learning_rates: {x: 0}}")
    assert problem.startswith("recipe.fine_tuning.learning_rates.x: must be above 0")


def test_order_of_patterns_survives_a_file(tmp_path: Path) -> None:
    rates = {"z*": 0.1, "*": 0.5, "a": 1.0}
    recipe = {"fine_tuning": {"source": "a.keras", "learning_rates": rates}}
    experiment = tiny_experiment(str(tmp_path), recipe=recipe)
    run = RunDirectory(tmp_path / "run")
    run.claim(resume=False)
    run.write_resolved(experiment, {})
    stored = run.read_resolved()[0].recipe.fine_tuning
    assert stored is not None
    assert list(stored.learning_rates.items()) == list(rates.items())
    run.release()


def test_no_source_is_needed_where_nothing_is_fine_tuned() -> None:
    for option in ("inherited: [x]", "trained: [x]", "freeze_batch_norm: true"):
        (problem,) = problems_with(f"recipe.fine_tuning={{{option}}}")
        assert "needs a source" in problem
    assert tiny_experiment("cache").recipe.fine_tuning is None


def test_layers_of_a_fresh_network_may_learn_at_rates_of_their_own() -> None:
    model = build()
    config = FineTuningConfig(learning_rates={"block1*": 0.5})
    tuning = prepare_fine_tuning(model, config, None)
    assert tuning.rate_factors is not None
    by_path = dict(
        zip([v.path for v in model.trainable_variables], tuning.rate_factors, strict=True)
    )
    assert by_path["block1_conv1/kernel"] == 0.5 and by_path["logits/bias"] == 1.0
    assert all(layer.trainable for layer in model.backbone.layers)


if __name__ == "__main__":
    tf.test.main()
