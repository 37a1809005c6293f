"""The command: what is published, fetched from a local server, converted from a written file."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import tensorflow as tf

from esc_tf import checkpoints
from esc_tf.config.published import PUBLISHED
from esc_tf.tasks.classifier import load_classifier
from tests.data.server import serve
from tests.models.checkpoints.test_tables import classifier_of, invent, rules_of
from tests.models.checkpoints.torch_writer import Tensor, write
from tests.test_architecture import run_and_list_modules


def call(*arguments: str) -> tuple[int, str, str]:
    """Run the command in this process; return its exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = checkpoints.main(list(arguments))
    return code, out.getvalue(), err.getvalue()


class CommandTestCase(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.cache = self.folder / "cache"
        self.enter_context(mock.patch.dict(os.environ, {"ESC_TF_CACHE": str(self.cache)}))


class ListTest(tf.test.TestCase):
    def test_it_answers_before_tensorflow_is_loaded(self):
        loaded = run_and_list_modules("esc_tf.checkpoints")
        self.assertEmpty(loaded & {"tensorflow", "keras"})

    def test_every_file_is_listed(self):
        code, out, _ = call("list")
        self.assertEqual(code, 0)
        for name, published in PUBLISHED.items():
            self.assertRegex(out, rf"(?m)^{name} .*{published.licence} .*{published.origin}$")
        self.assertRegex(out, r"(?m)^mn04_as +mobilenet_v3 +mn04 +527 +43\.2 +4\.07 MB +MIT")
        self.assertIn("No weights of TFNet are published", out)

    def test_json(self):
        code, out, _ = call("list", "--json")
        rows = {row["name"]: row for row in map(json.loads, out.splitlines())}
        self.assertEqual((code, set(rows)), (0, set(PUBLISHED)))
        self.assertEqual(rows["mn10_as"]["mean_average_precision"], 47.1)
        self.assertIsNone(rows["mn10_as"]["sha256"])
        self.assertLen(rows["mn04_as"]["sha256"], 64)


class FetchTest(CommandTestCase):
    def setUp(self):
        super().setUp()
        self.server = self.enter_context(serve(b"numbers of a network" * 1000))
        self.digest = hashlib.sha256(self.server.content).hexdigest()
        self.path = self.cache / "checkpoints" / "mn10_as_mAP_471.pt"
        self.note = self.path.with_name(self.path.name + ".sha256")

    def fetch(self, name: str = "mn10_as", *arguments: str) -> tuple[int, str, str]:
        return call("fetch", name, "--url", self.server.url, *arguments)

    def test_without_a_published_digest_the_first_one_holds(self):
        code, out, _ = self.fetch()
        self.assertEqual(code, 0)
        self.assertEqual(self.path.read_bytes(), self.server.content)
        self.assertIn(f"SHA-256 {self.digest}; no digest is published, so this one is noted", out)
        self.assertIn("convert with: --model mobilenet_v3 --variant mn10", out)
        self.assertEqual(self.note.read_text(), f"{self.digest}  {self.path.name}\n")
        code, out, _ = self.fetch()
        self.assertEqual(code, 0)
        self.assertIn("there already", out)
        self.assertIn("as at the first download", out)
        self.assertLen(self.server.requests, 1)
        self.path.write_bytes(b"changed")
        code, _, err = self.fetch()
        self.assertEqual(code, 1)
        self.assertRegex(err, f"has the SHA-256 digest .*, not {self.digest}; remove it and fetch")
        # Fetched anew, another file under the same address is refused as well.
        self.path.unlink()
        self.server.content += b"!"
        code, _, err = self.fetch()
        self.assertEqual(code, 1)
        self.assertRegex(err, f", not {self.digest}; it was changed there or on the way")
        self.assertFalse(self.path.exists())

    def test_a_published_digest_is_compared(self):
        code, _, err = self.fetch("mn04_as")
        self.assertEqual(code, 1)
        self.assertIn(f"not {PUBLISHED['mn04_as'].sha256}", err)
        self.assertEmpty(list((self.cache / "checkpoints").glob("mn04*")))
        published = dataclasses.replace(PUBLISHED["mn04_as"], sha256=self.digest)
        with mock.patch.dict(PUBLISHED, mn04_as=published):
            code, out, _ = self.fetch("mn04_as", "--out", str(self.folder / "here"))
        self.assertEqual(code, 0)
        self.assertIn(f"SHA-256 {self.digest}, as it should be", out)
        self.assertEqual(
            [path.name for path in (self.folder / "here").iterdir()], ["mn04_as_mAP_432.pt"]
        )

    def test_a_digest_of_the_user_s(self):
        code, _, err = self.fetch("mn10_as", "--sha256", "0" * 64)
        self.assertEqual(code, 1)
        self.assertIn("not " + "0" * 64, err)
        self.assertEqual(self.fetch("mn10_as", "--sha256", self.digest.upper())[0], 0)
        self.assertFalse(self.note.exists())
        code, _, err = self.fetch("mn10_as", "--sha256", "abc")
        self.assertEqual((code, err), (2, "error: --sha256: a digest has 64 hexadecimal digits\n"))

    def test_an_interrupted_fetch_goes_on(self):
        self.server.cut_after = [1000]
        with mock.patch("time.sleep"):
            self.assertEqual(self.fetch()[0], 0)
        self.assertEqual(self.server.requests, [None, "bytes=1000-"])
        self.assertEqual(self.path.read_bytes(), self.server.content)

    def test_unknown_names(self):
        code, _, err = call("fetch", "mn10")
        self.assertEqual(code, 2)
        self.assertIn("unknown checkpoint 'mn10'; did you mean 'mn10_as'?", err)


class ConvertTest(CommandTestCase):
    def setUp(self):
        super().setUp()
        self.source = self.folder / "mn01.pt"
        self.out = self.folder / "mn01.keras"
        self.write_source(5)

    def write_source(self, num_classes: int) -> None:
        small = classifier_of("mobilenet_v3", "mn01", num_classes)
        tensors = invent(rules_of("mobilenet_v3", "mn01", small), small)
        content = {
            name: Tensor(str(index), values) for index, (name, values) in enumerate(tensors.items())
        }
        counter = Tensor("counter", np.array([3]), shape=())
        write(self.source, {**content, "features.0.1.num_batches_tracked": counter}, "stream")

    def convert(self, *arguments: str, variant: str = "mn01") -> tuple[int, str, str]:
        model = ("--model", "mobilenet_v3", "--variant", variant)
        files = ("--source", str(self.source), "--out", str(self.out))
        return call("convert", *model, *files, "--duration", "0.5", *arguments)

    def test_it_says_what_became_of_everything(self):
        labels = self.folder / "names.txt"
        labels.write_text("\n".join("edcba"))
        code, out, err = self.convert("--labels", str(labels), "--output", "softmax")
        self.assertEqual((code, err), (0, ""))
        lines = out.splitlines()
        self.assertRegex(lines[0], r"^used 25\d tensors: [\d,]+ trainable parameters$")
        self.assertEqual(
            lines[1:4],
            [
                "ignored 1: counts training steps, which the layer here does not need",
                "made for 0.5 s at 32,000 Hz, softmax of 5 classes",
                f"labels: 5 names from {labels}",
            ],
        )
        self.assertRegex(lines[4], r"^wrote .*mn01.keras \(loaded again: logits differ by 0")
        self.assertEqual(load_classifier(self.out).label_names, tuple("edcba"))

    def test_nothing_is_overwritten_unasked(self):
        self.out.write_bytes(b"mine")
        code, _, err = self.convert()
        self.assertEqual(code, 2)
        self.assertRegex(err, "mn01.keras: is there already; add --force to replace it")
        self.assertEqual(self.out.read_bytes(), b"mine")
        code, _, err = self.convert("--force", variant="mn01_fc")
        self.assertEqual(code, 1)
        self.assertEqual(self.out.read_bytes(), b"mine")
        self.assertEqual(self.convert("--force")[0], 0)
        self.assertLen(load_classifier(self.out).label_names, 5)

    def test_another_network_is_refused_with_both_sides(self):
        code, out, err = self.convert(variant="mn01_fc")
        self.assertEqual((code, out), (1, ""))
        first, missing, homeless = err.splitlines()
        self.assertEndsWith(
            first, "as mobilenet_v3 mn01_fc: the checkpoint does not fit classifier, and nothing "
            "was changed:"
        )  # fmt: skip
        self.assertStartsWith(missing, "error: missing in the checkpoint (5): classifier.0.weight")
        self.assertStartsWith(
            homeless, "error: in the checkpoint without a place in the model (4): classifier.2."
        )
        self.assertFalse(self.out.exists())

    def test_names_of_audioset_are_found_or_missed(self):
        self.write_source(527)
        names = [f"sound {index}" for index in range(527)]
        rows = [f"{index},/m/{index},{name}" for index, name in enumerate(names)]
        table = "\n".join(["index,mid,display_name", *rows])
        code, out, _ = self.convert()
        self.assertEqual(code, 0)
        self.assertRegex(out, "labels: none found, .*class_0.*checkpoints fetch audioset_labels")
        fetched = self.cache / "checkpoints" / "class_labels_indices.csv"
        fetched.parent.mkdir(parents=True)
        beside = self.folder / "audioset_class_labels_indices.csv"
        fetched.write_text(table)
        self.assertEqual(checkpoints.find_labels(self.source, 527), fetched)
        self.assertIsNone(checkpoints.find_labels(self.source, 526))
        beside.write_text(table)
        code, out, _ = self.convert("--force")
        self.assertEqual(code, 0)
        self.assertIn(f"labels: 527 names from {beside}\n", out)
        self.assertEqual(load_classifier(self.out).label_names, tuple(names))

    def test_wrong_requests_are_told_at_once(self):
        for arguments, message in (
            (("--model", "mobilenet"), "did you mean 'mobilenet_v3'"),
            (("--variant", "mn10_as_fc"), "did you mean 'mn10_fc'"),
            (("--out", "model.h5"), "--out model.h5: must end in .keras"),
            (("--source", "no.pt"), "--source no.pt: no such file; .*fetch"),
            (("--labels", "no.txt"), "no.txt: cannot be read"),
            (("--duration", "-1"), "audio.duration_s: "),
        ):
            code, out, err = self.convert(*arguments)
            self.assertEqual((code, out), (2, ""))
            self.assertRegex(err, f"^error: .*{message}")
        labels = self.folder / "names.txt"
        labels.write_text("a\nb\n")
        code, _, err = self.convert("--labels", str(labels))
        self.assertEqual(code, 2)
        self.assertRegex(err, "has 5 classes, and there are 2 names")
        self.source.write_bytes(b"garbage")
        code, _, err = self.convert()
        self.assertEqual(code, 1)
        self.assertRegex(err, "mn01.pt: is no PyTorch or safetensors file")


if __name__ == "__main__":
    tf.test.main()
