"""The classifier: front end + backbone + head, from waveforms to probabilities in one graph."""

from __future__ import annotations

import copy
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
from keras import ops

from esc_tf.config import Experiment, HeadConfig
from esc_tf.errors import CheckpointError, EscTfError, RequestError
from esc_tf.frontends import build_front_end
from esc_tf.models import build_backbone
from esc_tf.models.folding import fold_batch_norms
from esc_tf.models.precision import precision_scope
from esc_tf.registry import look_up
from esc_tf.tasks.heads import EMBEDDING, build_head

MODEL_FILE_NAME = "model.keras"
_OUTPUTS = ("softmax", "sigmoid")


@keras.saving.register_keras_serializable(package="esc_tf")
class Classifier(keras.Model):
    """Waveforms → logits, probabilities and embedding.

    ``features = front_end(waveform)``, ``outputs = backbone(features)``, ``logits = head(x)`` with
    ``x`` the ``embedding`` or the last feature map among the outputs, as the kind of head asks
    (``esc_tf.tasks.heads``). All weights exist once the object does.

    Args:
        front_end: layer (waveform ``(batch, samples)``, num_samples ``(batch,)`` or None) →
            features ``(batch, time, frequency, channel)``.
        backbone: functional model features → dict with ``embedding`` and named activations.
        head: kind and options of the head, a ``HeadConfig`` as a dict.
        label_names: name of each class, in the order of the logits.
        audio: the waveform format the model was made for, an ``AudioConfig`` as a dict.
        output: ``softmax`` for one label a clip, ``sigmoid`` for any number of labels.
        other_threshold: a sound of which no class is as probable as this is none of them (`other`);
            None: not calibrated.
        precision: Keras policy of the head's hidden layers. Logits, probabilities and the
            returned embedding are float32 under any policy.

    Call arguments:
        inputs: waveform float32 ``(batch, samples)``, full scale 1, or a dict with ``waveform``
            and optionally ``num_samples`` int32 ``(batch,)``, the samples before padding; other
            keys are ignored.
        training: whether dropout and batch statistics are on.

    Returns:
        A dict of float32 ``logits`` ``(batch, classes)``, ``probabilities`` ``(batch, classes)``
        and ``embedding`` ``(batch, units)``.

    Raises:
        ValueError: unknown ``output``, or fewer than one class.
    """

    def __init__(
        self,
        front_end: keras.layers.Layer,
        backbone: keras.Model,
        head: Mapping[str, Any],
        label_names: Sequence[str],
        audio: Mapping[str, Any],
        output: str = "softmax",
        other_threshold: float | None = None,
        precision: str = "float32",
        **kwargs: Any,
    ) -> None:
        # The waveform must not be rounded on its way in, whatever the policy of the backbone.
        super().__init__(**{**kwargs, "dtype": "float32"})
        if output not in _OUTPUTS:
            raise ValueError(f"output must be one of {', '.join(_OUTPUTS)}, not {output!r}")
        if not label_names:
            raise ValueError("label_names must hold at least one class")

        # --- layers
        self.front_end = front_end
        self.backbone = backbone
        head_config = HeadConfig(**head)
        # The name of the backbone's output from which the head makes logits.
        self.head_source, self.head = build_head(
            backbone, head_config, len(label_names), output, precision
        )
        self.built = True

        # --- config
        self._settings: dict[str, Any] = {
            "head": head_config.model_dump(mode="json"),
            "label_names": [str(name) for name in label_names],
            "audio": dict(audio),
            "output": output,
            "other_threshold": other_threshold,
            "precision": precision,
        }

    @property
    def label_names(self) -> tuple[str, ...]:
        """Name of each class, in the order of the logits."""
        return tuple(self._settings["label_names"])

    @property
    def audio(self) -> dict[str, Any]:
        """The waveform format: the fields of ``AudioConfig``, ``sample_rate_hz`` among them."""
        return dict(self._settings["audio"])

    @property
    def output_kind(self) -> str:
        """``softmax`` (one label a clip) or ``sigmoid`` (any number)."""
        return str(self._settings["output"])

    @property
    def other_threshold(self) -> float | None:
        """The probability that no class reaches in a sound that is `other`; None: unknown."""
        return self._settings["other_threshold"]

    @other_threshold.setter
    def other_threshold(self, threshold: float | None) -> None:
        self._settings["other_threshold"] = None if threshold is None else float(threshold)

    @property
    def any_length(self) -> bool:
        """Whether it takes waveforms of any number of samples as they are.

        False where the backbone wants features of one length, or the front end cuts or fills up
        every clip to ``num_frames``.
        """
        frames = self.front_end.compute_output_shape((None, None))[1]
        return frames is None and self.backbone.input.shape[1] is None

    @property
    def activation_names(self) -> tuple[str, ...]:
        """Names of the activations, from input to output, that models of this kind always have.

        ``compute_activations`` takes these and, beyond them, the name of any layer.
        """
        return ("features", *self.backbone.output, *self.head.output)

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        waveform, num_samples = _split_inputs(inputs)
        return self.classify_features(
            self.extract_features(waveform, num_samples), training=training
        )

    def extract_features(self, waveform: Any, num_samples: Any = None) -> Any:
        """Waveform ``(batch, samples)`` → features ``(batch, time, frequency, channel)``.

        Args:
            waveform: float32, full scale 1.
            num_samples: int32 ``(batch,)``, the samples of each clip before padding; None: all.
        """
        return self.front_end(waveform, num_samples)

    def classify_features(self, features: Any, training: bool = False) -> dict[str, Any]:
        """Features ``(batch, time, frequency, channel)`` → the same dict as a call."""
        values = self.backbone(features, training=training)
        outputs = self.head(values[self.head_source], training=training)
        return {**outputs, "embedding": ops.cast(values[EMBEDDING], "float32")}

    def fold_batch_norms(self, merge_padding: bool = True) -> Classifier:
        """A classifier of its own for inference, with the same outputs to rounding, but faster.

        See ``esc_tf.models.folding``: layers with the names of batch norms and of the convolutions
        before them are not there any more, those of ``activation_names`` are.

        Args:
            merge_padding: False where TFLite's interpreter is to run it.
        """
        backbone = fold_batch_norms(self.backbone, merge_padding)
        folded = Classifier(self.front_end, backbone, **self._settings, name=self.name)
        folded.head.set_weights(self.head.get_weights())
        return folded

    def compute_activations(self, inputs: Any, names: Sequence[str]) -> dict[str, Any]:
        """Values inside the network for some waveforms, without dropout.

        Args:
            inputs: as in a call.
            names: of ``activation_names``, or of layers.

        Returns:
            name → value, in the precision in which it was computed.

        Raises:
            UnknownNameError: no such activation or layer.
        """
        return self.compute_feature_activations(
            self.extract_features(*_split_inputs(inputs)), names
        )

    def compute_feature_activations(self, features: Any, names: Sequence[str]) -> dict[str, Any]:
        """As ``compute_activations``, from features ``(batch, time, frequency, channel)``."""
        in_backbone, in_head = _find_tensors(self.backbone), _find_tensors(self.head)
        known = {"features": None, **in_backbone, **in_head}
        for name in names:
            look_up(known, name, "activation")

        # A functional model over existing layers costs no weights, so one is made for each
        # request; a model kept on self would be saved with it.
        wanted = {name: in_backbone[name] for name in names if name in in_backbone}
        wanted[self.head_source] = in_backbone[self.head_source]
        values = keras.Model(self.backbone.input, wanted)(features, training=False)
        wanted = {name: in_head[name] for name in names if name in in_head}
        if wanted:
            head_input = values[self.head_source]
            values.update(keras.Model(self.head.input, wanted)(head_input, training=False))
        values["features"] = features
        return {name: values[name] for name in names}

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "front_end": keras.saving.serialize_keras_object(self.front_end),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            **self._settings,
            "head": dict(self._settings["head"]),
            "label_names": list(self._settings["label_names"]),
            "audio": dict(self._settings["audio"]),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Classifier:
        config = copy.deepcopy(config)  # Keras empties the configuration of a functional model
        for part in ("front_end", "backbone"):
            config[part] = keras.saving.deserialize_keras_object(
                config[part], custom_objects=custom_objects
            )
        return cls(**config)


def build_classifier(experiment: Experiment, label_names: Sequence[str]) -> Classifier:
    """Build the classifier of an experiment, with fresh weights.

    Backbone and hidden layers compute in ``distribution.precision``; the global Keras policy is
    left as it was. The output is ``sigmoid`` if the loss is binary cross-entropy.

    Args:
        experiment: the configuration.
        label_names: name of each class, in the order of the logits.

    Raises:
        ConfigError: the model does not fit the features.
    """
    front_end = build_front_end(experiment.front_end, experiment.audio.sample_rate_hz)
    feature_shape = front_end.compute_output_shape((1, experiment.num_samples))[1:]
    precision = experiment.distribution.precision
    with precision_scope(precision):
        backbone = build_backbone(experiment.model, feature_shape)
    return Classifier(
        front_end=front_end,
        backbone=backbone,
        head=experiment.model.head.model_dump(mode="json"),
        label_names=label_names,
        audio=experiment.audio.model_dump(mode="json"),
        output="sigmoid" if experiment.recipe.loss == "binary_crossentropy" else "softmax",
        precision=precision,
        name="classifier",
    )


def load_classifier(path: str | Path) -> Classifier:
    """Load a saved classifier.

    Args:
        path: a ``.keras`` file, or a run directory that holds ``model.keras``.

    Raises:
        RequestError: there is no such file.
        CheckpointError: the file is damaged or holds something else.
    """
    given, path = Path(path), Path(path).expanduser()
    if path.is_dir():
        path = path / MODEL_FILE_NAME
        if not path.is_file():
            raise RequestError(
                f"{given}: holds no {MODEL_FILE_NAME}; name a finished run directory or a .keras "
                "file"
            )
    if not path.is_file():
        raise RequestError(f"{given}: no such model; name a run directory or a .keras file")
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path}: is damaged or not a .keras file; save the model again")
    try:
        model = keras.saving.load_model(path, compile=False)
    except EscTfError:
        raise
    except Exception as error:  # Keras raises almost any type on a damaged archive
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: cannot be loaded ({reason})") from error
    if not isinstance(model, Classifier):
        raise CheckpointError(
            f"{path}: holds a {type(model).__name__}, not a classifier of this package"
        )
    return model


def _split_inputs(inputs: Any) -> tuple[Any, Any]:
    if isinstance(inputs, Mapping):
        return inputs["waveform"], inputs.get("num_samples")
    return inputs, None


def _find_tensors(model: keras.Model) -> dict[str, Any]:
    """Name → symbolic value, of the model's named outputs and of each of its layers."""
    inputs = {layer.name: layer.output for layer in model.layers}
    return {**inputs, **model.output}
