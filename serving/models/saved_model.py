"""Any SavedModel as a servable, whether TensorFlow 2 or 1 wrote it.

A SavedModel of TensorFlow 2 is run through its own signature functions, so that its results are
those of a direct call to the bit. One of TensorFlow 1 is run in a session, as Serving does:
TensorFlow 2's loader refuses some of them (reference variables, feeds with static shapes that do
not agree). Both take inputs of shapes other than those in the signature if the graph can compute
with them, as Serving does.
"""

from __future__ import annotations

import contextlib
import gc
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorflow.core.framework.types_pb2 import DataType
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, saved_model_pb2

from serving.errors import HTTP_STATUS, ServingError
from serving.models.config import DEFAULT_LOAD_OPTIONS, LoadOptions
from serving.models.servable import Arrays, Execute, Servable
from serving.models.warm_up import replay_warm_up
from serving.signatures import Signature, TensorSpec

# In a SavedModel's list of signatures, but none that can be called.
_OPERATIONS = ("__saved_model_init_op", "__saved_model_train_op")
_CODES = {getattr(tf.errors, name): name for name in HTTP_STATUS if hasattr(tf.errors, name)}
_EAGER_PREAMBLE = re.compile(
    r"\AGraph execution error:\n\nDetected at node .*?<stack traces unavailable>\n", re.DOTALL
)
_FUNCTION_NODES = re.compile(r"\A(\{\{function_node [^}]*\}\}\s*)+")
_EAGER_OPERATION = re.compile(r" \[Op:[^\]]*\]\Z")


def load_servable(
    model_name: str, version: int, folder: Path, options: LoadOptions = DEFAULT_LOAD_OPTIONS
) -> Servable:
    """Load a SavedModel and replay its warm-up requests.

    Args:
        model_name: as in ``/v1/models/NAME``.
        version: its number.
        folder: holds ``saved_model.pb`` or ``saved_model.pbtxt``.
        options: what to load of it, and whether to warm it up.

    Raises:
        ServingError: it is not there, damaged, has no graph with these tags, or a warm-up request
            fails; with the code and, where there are any, the words of Serving.
    """
    meta_graph = _find_meta_graph(folder, options.tags)
    definitions = {
        key: _copy(meta_graph.signature_def[key]) for key in sorted(meta_graph.signature_def)
    }
    signatures = {
        key: _describe(key, value) for key, value in definitions.items() if key not in _OPERATIONS
    }
    with _translated(loading=True):
        load = _load_functions if meta_graph.HasField("object_graph_def") else _load_session
        execute, release = load(folder, options.tags, signatures)
    servable = Servable(
        model_name=model_name,
        version=version,
        signatures=signatures,
        signature_defs=definitions,
        execute=execute,
        defaults={
            key: {alias: tf.make_ndarray(value) for alias, value in definition.defaults.items()}
            for key, definition in definitions.items()
            if definition.defaults
        },
        release=release,
    )
    if options.warm_up:
        try:
            with _translated(loading=True):
                replay_warm_up(servable, folder, options.warm_up_iterations)
        except ServingError:
            servable.close()
            raise
    return servable


def _load_functions(
    folder: Path, tags: Sequence[str], signatures: Mapping[str, Signature]
) -> tuple[Execute, Callable[[], None]]:
    """Load a SavedModel of TensorFlow 2."""
    loaded = tf.saved_model.load(str(folder), tags=list(tags))
    functions = dict(loaded.signatures)
    held = [loaded]  # the functions hold no strong reference to their variables

    def execute(name: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> Arrays:
        with _translated():
            arrays = _check_types(signatures[name], inputs)
            tensors = {alias: tf.convert_to_tensor(value) for alias, value in arrays.items()}
            results = functions[name](**tensors)
            return {alias: _from_numpy(results[alias].numpy()) for alias in outputs}

    def release() -> None:
        functions.clear()
        held.clear()
        gc.collect()  # what was loaded refers to itself in circles

    return execute, release


def _load_session(
    folder: Path, tags: Sequence[str], signatures: Mapping[str, Signature]
) -> tuple[Execute, Callable[[], None]]:
    """Load a SavedModel of TensorFlow 1."""
    graph = tf.Graph()
    with graph.as_default():
        session = tf.compat.v1.Session(graph=graph)
        tf.compat.v1.saved_model.load(session, list(tags), str(folder))
    callables: dict[tuple[str, tuple[str, ...]], Callable[..., list[Any]]] = {}

    def execute(name: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> Arrays:
        signature = signatures[name]
        key = (name, tuple(outputs))
        if key not in callables:
            options = config_pb2.CallableOptions()
            options.feed.extend(signature.inputs[alias].name for alias in sorted(signature.inputs))
            options.fetch.extend(signature.outputs[alias].name for alias in outputs)
            # Session.run compares shapes with the placeholders' in Python; Serving does not, and
            # its own half_plus_two is called with shapes that are not its signature's.
            with _translated():
                callables[key] = session._make_callable_from_options(options)
        with _translated():
            arrays = _check_types(signature, inputs)
            results = callables[key](*arrays.values())
        return {alias: _from_numpy(value) for alias, value in zip(outputs, results, strict=True)}

    def release() -> None:
        callables.clear()
        session.close()
        gc.collect()

    return execute, release


def _type_of(spec: TensorSpec) -> tf.DType:
    return tf.as_dtype(DataType.Value(spec.dtype))


def _from_numpy(value: Any) -> np.ndarray:
    """Make an array of what TensorFlow gives for a tensor: of a scalar, no array."""
    return np.array(value, dtype=object) if isinstance(value, bytes) else np.asarray(value)


def _check_types(signature: Signature, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the inputs in the order of their aliases; refuse those of another type.

    TensorFlow's Python would convert some and refuse others in words of its own.
    """
    for place, (alias, spec) in enumerate(sorted(signature.inputs.items())):
        expected, given = _type_of(spec), tf.as_dtype(inputs[alias].dtype)
        if given != expected:
            types = f"{_name_of(expected)} but {_name_of(given)}"
            raise ServingError(
                "INVALID_ARGUMENT", f"Expects arg[{place}] to be {types} is provided"
            )
    return {alias: inputs[alias] for alias in sorted(inputs)}


def _name_of(dtype: tf.DType) -> str:
    """Name a type as TensorFlow's C++ does: ``float``, ``double``, ``half``, ``int32`` …"""
    return DataType.Name(dtype.as_datatype_enum).removeprefix("DT_").lower()


def _copy(definition: Any) -> Any:
    """Copy a signature, which else would hold the whole graph that it is a part of."""
    copied = meta_graph_pb2.SignatureDef()
    copied.CopyFrom(definition)
    return copied


def _find_meta_graph(folder: Path, tags: Sequence[str]) -> Any:
    """Read the graph with exactly these tags from ``saved_model.pb`` or ``saved_model.pbtxt``."""
    saved_model = saved_model_pb2.SavedModel()
    binary, text = folder / "saved_model.pb", folder / "saved_model.pbtxt"
    try:
        if binary.is_file():
            saved_model.ParseFromString(binary.read_bytes())
        elif text.is_file():
            text_format.Parse(text.read_text(encoding="utf-8"), saved_model)
        else:
            raise ServingError(
                "NOT_FOUND",
                f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: "
                f"{folder}. Check that the directory exists and that you have the right "
                "permissions for accessing it.",
            )
    except DecodeError as error:
        raise ServingError("DATA_LOSS", f"Can't parse {binary} as binary proto") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ServingError("DATA_LOSS", f"Can't parse {text} as text proto: {error}") from error
    except OSError as error:
        raise ServingError("UNAVAILABLE", f"{folder}: cannot be read: {error}") from error
    for meta_graph in saved_model.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == set(tags):
            return meta_graph
    raise ServingError(
        "NOT_FOUND",
        f"Could not find meta graph def matching supplied tags: {{ {' '.join(tags)} }}. To inspect "
        "available tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli`",
    )


def _describe(name: str, definition: Any) -> Signature:
    return Signature(
        name=name,
        method_name=definition.method_name,
        inputs={
            alias: _describe_tensor(alias, definition.inputs[alias])
            for alias in sorted(definition.inputs)
        },
        outputs={
            alias: _describe_tensor(alias, definition.outputs[alias])
            for alias in sorted(definition.outputs)
        },
    )


def _describe_tensor(alias: str, info: Any) -> TensorSpec:
    shape: tuple[int | None, ...] | None = None
    if info.HasField("tensor_shape") and not info.tensor_shape.unknown_rank:
        shape = tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)
    # A reference variable of TensorFlow 1 gives values of the type that it refers to.
    dtype = DataType.Name(info.dtype).removesuffix("_REF")
    return TensorSpec(alias, info.name, dtype, shape)


@contextlib.contextmanager
def _translated(loading: bool = False) -> Iterator[None]:
    """Turn TensorFlow's errors into ServingError with the same code and the essential words."""
    try:
        yield
    except tf.errors.OpError as error:
        code = _CODES.get(error.error_code, "UNKNOWN")
        raise ServingError(code, _keep_essence(error.message)) from error
    except UnicodeDecodeError as error:
        # TensorFlow's Python cannot read a message that quotes bytes of the request.
        message = bytes(error.object).decode(errors="replace")
        raise ServingError("INVALID_ARGUMENT", _keep_essence(message)) from error
    except FileNotFoundError as error:
        raise ServingError("NOT_FOUND", str(error)) from error
    except (TypeError, ValueError, OSError) as error:
        # Before the graph, such as an array that is no tensor; while loading, a damaged file.
        raise ServingError("DATA_LOSS" if loading else "INVALID_ARGUMENT", str(error)) from error


def _keep_essence(message: str) -> str:
    """Drop what TensorFlow's Python puts around the words of the runtime."""
    return _EAGER_OPERATION.sub("", _FUNCTION_NODES.sub("", _EAGER_PREAMBLE.sub("", message)))
