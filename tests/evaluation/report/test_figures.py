"""Figures: they show what they are given and can stand in a page."""

from __future__ import annotations

import re

import matplotlib as mpl
import numpy as np
import tensorflow as tf

from esc_tf.evaluation.calibration import measure_calibration
from esc_tf.evaluation.metrics import compute_metrics
from esc_tf.evaluation.report.figures import classes, learning, network, sounds
from esc_tf.evaluation.report.figures.drawing import draw_svg, encode_png
from tests.evaluation.report.reading import Page, decode_image

# Names that would break SVG, HTML or matplotlib's formulas.
NAMES = ("a<b>&\"c'", "$x_1$", "_hidden", "\\frac")


def make_findings(num_classes: int, num_clips: int = 60) -> tuple[np.ndarray, np.ndarray, dict]:
    rng = np.random.default_rng(0)
    label_ids = np.arange(num_clips) % num_classes
    scores = rng.dirichlet(np.ones(num_classes), num_clips)
    scores[np.arange(num_clips), label_ids] += 0.3
    scores /= scores.sum(axis=1, keepdims=True)
    names = (*NAMES, *(f"class {index}" for index in range(num_classes)))[:num_classes]
    return label_ids, scores, compute_metrics(label_ids, scores, names)


class FiguresTest(tf.test.TestCase):
    def check(self, svg: str) -> str:
        """A drawing is well-formed, needs nothing from outside, and returns its text."""
        page = Page(svg)
        self.assertEqual(page.problems, [])
        self.assertEqual(page.elements[0][0], "svg")
        for reference in page.find_references():
            self.assertRegex(reference, r"^(#|data:image/png;base64,)")
        self.assertNotIn("http", svg)
        targets = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        self.assertLen(set(targets), len(targets))
        for reference in page.find_references():
            if reference.startswith("#"):
                self.assertIn(reference[1:], targets)
        # Colours of the page, not those that stand for them.
        self.assertNotRegex(svg, r"#0[1-4]0[2-5]0[0-9]")
        return page.text

    def test_class_figures_name_every_class_as_it_is(self) -> None:
        label_ids, scores, metrics = make_findings(4)
        per_class = metrics["per_class"]
        drawings = {
            "confusion": classes.draw_confusion_matrix(metrics["confusion_matrix"], NAMES, "a"),
            "bars": classes.draw_class_bars(per_class, "b"),
            "dots": classes.draw_class_dots(NAMES, {"run": [0.5, None, 1.0, 0.0]}, "c"),
        }
        for name, svg in drawings.items():
            with self.subTest(name):
                text = self.check(svg)
                for label in NAMES:
                    self.assertIn(label, text)
        counts = re.findall(r"\d+", self.check(drawings["confusion"]))
        wanted = [count for row in metrics["confusion_matrix"] for count in row if count]
        self.assertEqual(sorted(map(int, counts))[-4:], sorted(wanted)[-4:])
        text = self.check(
            classes.draw_roc(label_ids, scores, per_class, metrics["roc_auc_micro"], "d")
        )
        self.assertIn(f"micro average ({metrics['roc_auc_micro']:.3f})", text)
        worst = min(per_class, key=lambda row: row["roc_auc"])
        self.assertIn(f"{worst['label_name']} ({worst['roc_auc']:.3f})", text)
        self.check(classes.draw_reliability(measure_calibration(label_ids, scores), "e"))

    def test_true_classes_run_down_and_predicted_ones_to_the_right(self) -> None:
        svg = classes.draw_confusion_matrix([[1, 77], [0, 1]], ("a", "b"), "a")
        self.check(svg)
        places = {
            text: (float(x), float(y))
            for x, y, text in re.findall(r'<text[^>]* x="([\d.]+)" y="([\d.]+)"[^>]*>(\d+)<', svg)
        }
        (x, y), diagonal = places["77"], places["1"]
        # "1" is found twice; the last one, at the bottom right, stays.
        self.assertAlmostEqual(x, diagonal[0], places=3)
        self.assertLess(y, diagonal[1])

    def test_fifty_classes_and_classes_without_clips_are_drawn(self) -> None:
        label_ids, scores, _ = make_findings(50, 40)
        metrics = compute_metrics(label_ids, scores, [f"class {index}" for index in range(50)])
        self.assertLen(metrics["absent_classes"], 10)
        self.check(classes.draw_class_bars(metrics["per_class"], "a"))
        text = self.check(
            classes.draw_confusion_matrix(
                metrics["confusion_matrix"], [f"class {index}" for index in range(50)], "b"
            )
        )
        self.assertIn("class 49", text)
        self.check(classes.draw_roc(label_ids, scores, metrics["per_class"], None, "c"))

    def test_curves(self) -> None:
        history = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "validation_loss": 3.0}]
        curves = [("training", history, "loss"), ("validation", history, "validation_loss")]
        text = self.check(learning.draw_curves(curves, y_label="loss", key="a", selected_epoch=2))
        for words in ("training", "validation", "selected: epoch 2", "epoch", "loss"):
            self.assertIn(words, text)
        one = [("training", history[:1], "loss"), ("validation", history[:1], "validation_loss")]
        self.assertNotIn("validation", self.check(learning.draw_curves(one, y_label="x", key="b")))

    def test_network_figures(self) -> None:
        parts = [
            {"name": "block1", "trainable_parameters": 25, "multiply_adds": 90},
            {"name": "head", "trainable_parameters": 75, "multiply_adds": 10},
        ]
        text = self.check(network.draw_part_shares(parts, "a"))
        for words in ("block1", "head", "25.0 %", "75.0 %", "90.0 %", "10.0 %"):
            self.assertIn(words, text)
        self.check(network.draw_weight_histogram(np.zeros((3, 3)), "b"))
        self.check(network.draw_weight_histogram(np.random.default_rng(0).normal(size=99), "c"))

    def test_feature_maps_lie_where_they_belong(self) -> None:
        # Channel 0: loud late and low; channel 1: constant; channel 2: loud early and high.
        maps = np.zeros((6, 4, 3), np.float32)
        maps[-1, 0, 0], maps[0, -1, 2] = 1.0, 5.0
        self.assertEqual(network.choose_channels(maps, 2), [0, 2])
        pixels = decode_image(network.draw_feature_maps(maps, [0, 2], 2))
        # Every value is a square of 18 pixels, so that the gap of two pixels stays a gap.
        self.assertEqual(pixels.shape, (4 * 18, 2 * 6 * 18 + 2, 4))
        bright = pixels[9::18, :, 0].astype(int) + pixels[9::18, :, 1]
        first, second = bright[:, 9:108:18], bright[:, 110 + 9 :: 18]
        self.assertEqual(np.unravel_index(first.argmax(), (4, 6)), (3, 5))
        self.assertEqual(np.unravel_index(second.argmax(), (4, 6)), (0, 0))
        self.assertAllEqual(pixels[:, 108:110, 3], np.zeros((72, 2)))
        self.assertAllEqual(pixels[:, :108, 3], np.full((72, 108), 255))

    def test_spectrograms_have_their_axes_and_stay_readable_numbers(self) -> None:
        values = np.random.default_rng(0).normal(size=(50, 24)).astype(np.float32)
        centres_hz = np.geomspace(60.0, 3900.0, 24)
        centres_hz[3] = np.nan  # a band too narrow for its transform
        for is_difference in (False, True):
            svg = sounds.draw_spectrogram(
                values,
                frame_step_s=0.02,
                band_centres_hz=centres_hz.tolist(),
                unit="dB",
                key="a",
                is_difference=is_difference,
            )
            text = self.check(svg)
            for words in ("time (s)", "frequency (Hz)", "100", "1k", "dB"):
                self.assertIn(words, text)
            self.assertNotIn("5k", text)
        constant = np.zeros((50, 24), np.float32)
        self.check(
            sounds.draw_spectrogram(
                constant,
                frame_step_s=0.02,
                band_centres_hz=centres_hz.tolist(),
                unit="dB",
                key="b",
                is_difference=True,
            )
        )

    def test_png_has_one_pixel_a_value(self) -> None:
        values = np.array([[0.0, 1.0], [np.nan, 0.5]], np.float32)
        pixels = decode_image(encode_png(values))
        colors = np.round(mpl.colormaps["viridis"]([0.0, 1.0])[:, :3] * 255)
        self.assertAllEqual(pixels[0, :, :3], colors)
        self.assertAllEqual(pixels[..., 3], [[255, 255], [0, 255]])

    def test_drawing_leaves_no_trace(self) -> None:
        before = dict(mpl.rcParams)
        first = draw_svg(lambda figure: figure.subplots(), width_in=1, height_in=1, key="a")
        again = draw_svg(lambda figure: figure.subplots(), width_in=1, height_in=1, key="a")
        self.assertEqual(first, again)
        self.assertEqual(dict(mpl.rcParams), before)


if __name__ == "__main__":
    tf.test.main()
