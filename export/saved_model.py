"""The SavedModel: a classifier with what TensorFlow Serving asks of it, and nothing of Keras."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from esc_tf.errors import RequestError
from esc_tf.tasks.classifier import Classifier
from export import warm_up
from export.graphs import InferenceGraphs
from export.wav import decode_clips, decode_wav, resample_start

LABELS_FILE = "labels.txt"
CLASSIFY_METHOD = "tensorflow/serving/classify"
# What the warm-up sends as a WAV file: another rate than the models', so that it is resampled.
_WARM_UP_RATE_HZ = 44_000


def write_saved_model(
    model: Classifier,
    folder: Path,
    activations: Sequence[str] = (),
    version: int = 1,
    name: str = "classifier",
) -> Path:
    """Write a classifier as a SavedModel; see ``write_graphs``.

    Args:
        model: a classifier, which is left as it was.
        folder: see ``write_graphs``, as for ``version`` and ``name``.
        activations: names from ``export.graphs.choose_activations``.
        version: of the model.
        name: of the model.
    """
    return write_graphs(InferenceGraphs(model, activations), folder, version, name)


def write_graphs(
    graphs: InferenceGraphs, folder: Path, version: int = 1, name: str = "classifier"
) -> Path:
    """Write ``folder/version/``, whole or not at all.

    Signatures; batches of any size, none included, and waveforms of any length from one sample,
    brought to the model's length as ``predict`` does it:

    - ``serving_default``: ``waveform`` float32 ``(batch, samples)`` at the model's rate, full
      scale 1 → ``probabilities`` and ``logits`` ``(batch, classes)``;
    - ``wav_bytes``: ``wav_bytes`` strings ``(batch,)``, whole WAV files of 16-bit PCM, each of its
      own rate, channels and length → the same;
    - ``activations``: ``waveform`` → the same and each activation by its name;
    - ``embedding``: ``waveform`` → ``embedding`` ``(batch, units)``;
    - ``classify``, Serving's classify API: ``inputs``, tf.Examples with either ``wav`` (bytes) or
      ``waveform`` (floats) → ``classes`` and ``scores`` ``(batch, classes)``;
    - ``labels``: nothing → ``labels``, strings ``(classes,)``;
    - ``audio_format``: nothing → ``sample_rate_hz`` and ``num_samples``, int32 scalars: the rate of
      the waveforms and the length of the model's clips.

    Args:
        graphs: what to compute.
        folder: of all versions; made if it is not there.
        version: Serving serves the highest number that it finds.
        name: of the model, in the warm-up requests.

    Returns:
        The folder of this version: the model, the labels as an asset, and the warm-up requests.

    Raises:
        RequestError: this version is there already, or is no version.
        OSError: it cannot be written.
    """
    if version < 1:
        raise RequestError(f"version {version}: a version is a number from 1")
    target = folder / str(version)
    if target.exists():
        raise RequestError(f"{target}: is there already; choose another version or folder")
    folder.mkdir(parents=True, exist_ok=True)
    # Serving looks at folders whose name is a number alone.
    partial = folder / f".{version}.{uuid.uuid4().hex}.partial"
    try:
        with tempfile.TemporaryDirectory() as place:
            labels = Path(place) / LABELS_FILE
            labels.write_text("".join(f"{label}\n" for label in graphs.label_names), "utf-8")
            module = _Signatures(graphs, labels)
            tf.saved_model.save(module, str(partial), signatures=module.functions)
        _set_classify_method(partial)
        warm_up.write_warm_up(partial, _make_requests(graphs, name))
        os.rename(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


class _Signatures(tf.Module):
    """The functions that a client may call, each traced once."""

    def __init__(self, graphs: InferenceGraphs, labels: Path) -> None:
        super().__init__(name="signatures")
        self.graphs = graphs
        self.labels_file = tf.saved_model.Asset(str(labels))
        waveform = tf.TensorSpec([None, None], tf.float32, name="waveform")
        texts = [tf.TensorSpec([None], tf.string, name=key) for key in ("wav_bytes", "inputs")]
        self.functions = {
            "serving_default": _trace(self._classify_waveform, waveform),
            "wav_bytes": _trace(self._classify_wav, texts[0]),
            "activations": _trace(self._activate, waveform),
            "embedding": _trace(self._embed, waveform),
            "classify": _trace(self._classify_examples, texts[1]),
            "labels": _trace(self._list_labels),
            "audio_format": _trace(self._describe_audio),
        }

    def _classify_waveform(self, waveform: Any) -> dict[str, Any]:
        return self.graphs.classify(waveform)

    def _classify_wav(self, wav_bytes: Any) -> dict[str, Any]:
        graphs = self.graphs
        clips = decode_clips(wav_bytes, graphs.sample_rate_hz, graphs.fit_clip, graphs.num_heard)
        return graphs.classify(*clips)

    def _activate(self, waveform: Any) -> dict[str, Any]:
        return self.graphs.activate(waveform)

    def _embed(self, waveform: Any) -> dict[str, Any]:
        return self.graphs.embed(waveform)

    def _classify_examples(self, inputs: Any) -> dict[str, Any]:
        num_clips = tf.size(inputs)
        signature = (
            tf.TensorSpec([self.graphs.num_samples], tf.float32),
            tf.TensorSpec([], tf.int32),
        )
        clips = tf.map_fn(
            self._read_example, (inputs, tf.range(num_clips)), fn_output_signature=signature
        )
        labels = tf.constant(self.graphs.label_names)[tf.newaxis]
        return {
            "classes": tf.tile(labels, [num_clips, 1]),
            "scores": self.graphs.classify(*clips)["probabilities"],
        }

    def _read_example(self, item: tuple[Any, Any]) -> tuple[Any, Any]:
        graphs, (serialized, index) = self.graphs, item
        fields = tf.io.parse_single_example(
            serialized,
            {
                "wav": tf.io.RaggedFeature(tf.string),
                "waveform": tf.io.RaggedFeature(tf.float32),
            },
        )
        wav, waveform = fields["wav"], fields["waveform"]
        has_wav, has_waveform = tf.size(wav) == 1, tf.size(waveform) > 0
        problem = tf.strings.join(
            [
                "example ",
                tf.strings.as_string(index),
                " needs either wav, the bytes of one WAV file, or waveform, one number or more at ",
                f"{graphs.sample_rate_hz} Hz, and not both",
            ]
        )
        is_clear = (has_wav | has_waveform) & ((tf.size(wav) == 0) | (tf.size(waveform) == 0))
        with tf.control_dependencies([tf.debugging.Assert(is_clear, [problem])]):
            has_wav = tf.identity(has_wav)

        def decode() -> Any:
            decoded, rate_hz = decode_wav(wav[0], index)
            return resample_start(
                decoded, rate_hz, self.graphs.sample_rate_hz, self.graphs.num_heard
            )

        return graphs.fit_clip(tf.cond(has_wav, decode, lambda: waveform))

    def _list_labels(self) -> dict[str, Any]:
        return {"labels": tf.constant(self.graphs.label_names)}

    def _describe_audio(self) -> dict[str, Any]:
        values = {key: getattr(self.graphs, key) for key in ("sample_rate_hz", "num_samples")}
        return {key: tf.constant(value, tf.int32) for key, value in values.items()}


def _trace(function: Any, *specifications: tf.TensorSpec) -> Any:
    return tf.function(function, list(specifications), autograph=False)


def _set_classify_method(folder: Path) -> None:
    """Say which signature answers Serving's classify API: the saving knows the predict API only."""
    path = folder / "saved_model.pb"
    saved = SavedModel.FromString(path.read_bytes())
    saved.meta_graphs[0].signature_def["classify"].method_name = CLASSIFY_METHOD
    path.write_bytes(saved.SerializeToString(deterministic=True))
    # The hashes of what was just changed; a model needs none.
    (folder / "fingerprint.pb").unlink(missing_ok=True)


def _make_requests(graphs: InferenceGraphs, name: str) -> list[bytes]:
    """One clip of silence for each signature that computes."""
    waveform = {"waveform": warm_up.make_silence(graphs.num_samples)}
    wav = warm_up.make_silent_wav(_WARM_UP_RATE_HZ // 10, _WARM_UP_RATE_HZ)
    example = tf.train.Example()
    example.features.feature["wav"].bytes_list.value.append(wav)
    return [
        *(
            warm_up.encode_predict(name, signature, waveform)
            for signature in ("serving_default", "activations", "embedding")
        ),
        warm_up.encode_predict(name, "wav_bytes", {"wav_bytes": tf.make_tensor_proto([wav])}),
        warm_up.encode_classify(name, "classify", [example]),
    ]
