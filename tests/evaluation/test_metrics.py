"""The measures: known answers by hand, scikit-learn's on random predictions, absent classes."""

from __future__ import annotations

import json

import numpy as np
import tensorflow as tf
from sklearn import metrics as sklearn_metrics

from esc_tf.errors import DataError, EscTfError
from esc_tf.evaluation.metrics import compute_metrics, find_confusions, format_metrics

NAMES = ["dog", "rain", "saw"]


def scores_for(predicted: list[int], num_classes: int) -> np.ndarray:
    return np.eye(num_classes)[predicted] * 0.7 + 0.1


class KnownAnswerTest(tf.test.TestCase):
    def test_by_hand(self) -> None:
        # True: dog dog dog rain; predicted: dog dog rain rain; no clip of class saw.
        result = compute_metrics(np.array([0, 0, 0, 1]), scores_for([0, 0, 1, 1], 3), NAMES)
        self.assertEqual(result["num_clips"], 4)
        self.assertEqual(result["absent_classes"], ["saw"])
        self.assertEqual(result["confusion_matrix"], [[2, 1, 0], [0, 1, 0], [0, 0, 0]])
        self.assertAlmostEqual(result["accuracy"], 3 / 4)
        self.assertAlmostEqual(result["balanced_accuracy"], (2 / 3 + 1) / 2)
        self.assertAlmostEqual(result["macro_f1"], (4 / 5 + 2 / 3) / 2)
        self.assertEqual(result["top_5_accuracy"], 1.0)
        # dog: of the three pairs with the rain clip two are ranked and one is a tie... by scores:
        # dogs 0.8, 0.8, 0.1 against 0.1: 2 wins and a tie of 3. rain: 0.8 against 0.1, 0.1, 0.8.
        self.assertAlmostEqual(result["roc_auc_macro"], (2.5 / 3 + 2.5 / 3) / 2)
        # 4 members, 8 others; scores 0.8, 0.8, 0.1, 0.8 against one 0.8 and seven 0.1.
        self.assertAlmostEqual(result["roc_auc_micro"], (3 * (7 + 0.5) + 7 * 0.5) / 32)
        dog, rain, saw = result["per_class"]
        self.assertEqual((dog["precision"], dog["num_clips"], dog["num_predicted"]), (1.0, 3, 2))
        self.assertAlmostEqual(dog["recall"], 2 / 3)
        self.assertAlmostEqual(rain["precision"], 1 / 2)
        self.assertEqual(saw["label_name"], "saw")
        for key in ("precision", "recall", "f1", "roc_auc"):
            self.assertIsNone(saw[key])

    def test_a_class_predicted_but_absent_costs_only_precision(self) -> None:
        result = compute_metrics(np.array([0, 1]), scores_for([0, 2], 3), NAMES)
        saw = result["per_class"][2]
        self.assertEqual((saw["precision"], saw["recall"], saw["f1"]), (0.0, None, None))
        self.assertAlmostEqual(result["balanced_accuracy"], 0.5)
        self.assertAlmostEqual(result["macro_f1"], 0.5)

    def test_one_class_alone_has_no_roc(self) -> None:
        result = compute_metrics(np.array([1, 1]), scores_for([1, 0], 3), NAMES)
        self.assertIsNone(result["roc_auc_macro"])
        self.assertIsNotNone(result["roc_auc_micro"])
        self.assertEqual(result["accuracy"], 0.5)

    def test_top_5_breaks_ties_as_accuracy_does(self) -> None:
        constant = np.full((8, 8), 1 / 8)
        result = compute_metrics(np.arange(8), constant, [str(index) for index in range(8)])
        self.assertEqual((result["accuracy"], result["top_5_accuracy"]), (1 / 8, 5 / 8))


class AgreementTest(tf.test.TestCase):
    def test_equals_scikit_learn_on_random_predictions(self) -> None:
        rng = np.random.default_rng(0)
        names = [f"class_{index}" for index in range(12)]
        label_ids = np.concatenate([np.arange(12), rng.integers(0, 12, size=188)])
        probabilities = rng.dirichlet(np.ones(12), size=200)
        probabilities[np.arange(200), label_ids] += 0.1
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        predicted = probabilities.argmax(axis=1)
        result = compute_metrics(label_ids, probabilities, names)
        expected = {
            "accuracy": (predicted == label_ids).mean(),
            "top_5_accuracy": sklearn_metrics.top_k_accuracy_score(label_ids, probabilities, k=5),
            "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(label_ids, predicted),
            "macro_f1": sklearn_metrics.f1_score(label_ids, predicted, average="macro"),
            "roc_auc_macro": sklearn_metrics.roc_auc_score(
                label_ids, probabilities, multi_class="ovr", average="macro"
            ),
            "roc_auc_micro": sklearn_metrics.roc_auc_score(
                label_ids, probabilities, multi_class="ovr", average="micro"
            ),
        }
        self.assertBetween(expected["accuracy"], 0.2, 0.8)
        for key, value in expected.items():
            self.assertAlmostEqual(result[key], value, places=12, msg=key)
        report = sklearn_metrics.classification_report(label_ids, predicted, output_dict=True)
        for row in result["per_class"]:
            theirs = report[str(row["label_id"])]
            self.assertAlmostEqual(row["precision"], theirs["precision"], places=12)
            self.assertAlmostEqual(row["recall"], theirs["recall"], places=12)
            self.assertAlmostEqual(row["f1"], theirs["f1-score"], places=12)
            self.assertEqual(row["num_clips"], theirs["support"])

    def test_float32_scores_give_the_same(self) -> None:
        rng = np.random.default_rng(1)
        probabilities = rng.dirichlet(np.ones(3), size=30).astype(np.float32)
        label_ids = rng.integers(0, 3, size=30)
        self.assertEqual(
            compute_metrics(label_ids, probabilities, NAMES),
            compute_metrics(label_ids, probabilities.astype(np.float64), NAMES),
        )


class RefusalTest(tf.test.TestCase):
    def test_no_clips(self) -> None:
        with self.assertRaisesRegex(DataError, "no clip to evaluate"):
            compute_metrics(np.zeros(0, int), np.zeros((0, 3)), NAMES)

    def test_scores_that_are_not_finite(self) -> None:
        scores = scores_for([0, 1, 2], 3)
        scores[1, 2] = np.nan
        with self.assertRaisesRegex(EscTfError, "not finite for 1 of 3 clips"):
            compute_metrics(np.array([0, 1, 2]), scores, NAMES)

    def test_labels_outside_the_classes(self) -> None:
        with self.assertRaisesRegex(ValueError, "outside 0..2"):
            compute_metrics(np.array([0, 3]), scores_for([0, 1], 3), NAMES)

    def test_shapes_that_do_not_agree(self) -> None:
        with self.assertRaisesRegex(ValueError, "need \\(2, 3\\)"):
            compute_metrics(np.array([0, 1]), scores_for([0, 1], 4), NAMES)

    def test_labels_that_are_not_integers(self) -> None:
        with self.assertRaisesRegex(ValueError, "integers"):
            compute_metrics(np.eye(3)[0], scores_for([0, 1, 2], 3), NAMES)


class FormatTest(tf.test.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.result = compute_metrics(
            np.array([0, 0, 0, 1, 1]), scores_for([0, 1, 1, 1, 0], 3), NAMES
        )

    def test_json_can_hold_it(self) -> None:
        text = json.dumps(self.result, allow_nan=False)
        self.assertEqual(json.loads(text), self.result)

    def test_table_has_every_class_and_every_measure(self) -> None:
        text = format_metrics(self.result)
        rows = {line.split()[0]: line.split() for line in text.splitlines() if line}
        self.assertEqual(rows["dog"], ["dog", "3", "0.5000", "0.3333", "0.4000", "0.4167"])
        self.assertEqual(rows["saw"], ["saw", "0", "-", "-", "-", "-"])
        self.assertEqual(rows["accuracy"][-1], "0.4000")
        self.assertIn("1 of 3 classes have no clips", text)
        self.assertIn("2  dog taken for rain", text)

    def test_confusions_come_largest_first(self) -> None:
        self.assertEqual(find_confusions(self.result), [(2, "dog", "rain"), (1, "rain", "dog")])
        self.assertEqual(find_confusions(self.result, num_rows=1), [(2, "dog", "rain")])
