"""The model that comes with the package, as the SavedModel that the server serves.

The package holds it as a ``.keras`` file. The first server that serves it writes the SavedModel
into the user's cache folder, in a process of its own, so that Keras takes no memory here.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import esc_tf
from esc_tf.errors import EscTfError

_VERSION = 1


def find_cache_folder() -> Path:
    """Where SavedModels of shipped models lie: ``serving`` in ``$ESC_TF_CACHE`` or the cache."""
    from esc_tf.data.decoded_cache import default_cache_dir  # which imports TensorFlow

    folder = default_cache_dir()
    return (folder if os.environ.get("ESC_TF_CACHE") else folder.parent) / "serving"


def prepare_saved_model(
    name: str, keras_file: Path, report: Callable[[str], object] = print
) -> Path:
    """Write the SavedModel, unless it is there.

    Args:
        name: of the model.
        keras_file: the model.
        report: takes a line when it is written, which takes some seconds.

    Returns:
        The folder of its versions. Other files, and other releases of this package, have others.

    Raises:
        EscTfError: it cannot be written.
    """
    digest = hashlib.sha256(keras_file.read_bytes() + esc_tf.__version__.encode()).hexdigest()
    folder = find_cache_folder() / f"{name}-{digest[:16]}"
    target = folder / str(_VERSION)
    if target.is_dir():
        return folder
    report(f"writing the SavedModel of {name} to {target}, once")
    process = multiprocessing.get_context("spawn").Process(
        target=_write, args=(str(keras_file), str(folder), name)
    )
    process.start()
    process.join()
    if not target.is_dir():  # another server may have written it meanwhile
        raise EscTfError(f"{target}: could not be written; the lines before this one say why")
    return folder


def _write(keras_file: str, folder: str, name: str) -> None:
    """In the new process: load the model, write its SavedModel, whole or not at all."""
    from esc_tf.tasks.classifier import load_classifier
    from export.graphs import ALL_ACTIVATIONS, choose_activations
    from export.saved_model import write_saved_model

    model = load_classifier(Path(keras_file))
    activations = choose_activations(model, ALL_ACTIVATIONS)
    write_saved_model(model, Path(folder), activations, _VERSION, name)
