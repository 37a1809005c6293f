"""SavedModels of both TensorFlows, run as a direct call of their signatures would be."""

from __future__ import annotations

import gc
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from export.warm_up import encode_classify, encode_predict, write_warm_up
from serving.batching.batcher import ServableBatcher
from serving.batching.parameters import BatchingParameters
from serving.batching.scheduler import BatchScheduler
from serving.errors import ServingError
from serving.models.config import LoadOptions, ModelConfig, VersionPolicy
from serving.models.manager import ModelManager
from serving.models.saved_model import load_servable
from serving.models.servable import Servable
from serving.signatures import TensorSpec
from tests.serving.models.fakes import WAIT_S, wait_until
from tests.serving.models.saved_models import make_example, write_half_plus_two, write_tf2

IMAGES = np.random.default_rng(1).normal(size=(9, 16, 16, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("models")
    return {"tf2": write_tf2(base / "tf2" / "1"), "tf1": write_half_plus_two(base / "tf1" / "1")}


@pytest.fixture(scope="module")
def tf2(folders: dict[str, Path]) -> Servable:
    return load_servable("tf2", 1, folders["tf2"])


@pytest.fixture(scope="module")
def tf1(folders: dict[str, Path]) -> Servable:
    return load_servable("tf1", 1, folders["tf1"])


@pytest.fixture
def copy(folders: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders["tf2"], tmp_path / "copy"))


def refusal(servable: Servable, signature: str, inputs: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(ServingError) as caught:
        servable.run(signature, {alias: np.asarray(value) for alias, value in inputs.items()})
    return caught.value.code, caught.value.message


def load_error(folder: Path, options: LoadOptions | None = None) -> ServingError:
    with pytest.raises(ServingError) as caught:
        load_servable("m", 1, folder, options or LoadOptions())
    return caught.value


# --- calls


def test_results_are_those_of_a_direct_call_to_the_bit(
    tf2: Servable, folders: dict[str, Path]
) -> None:
    direct = tf.saved_model.load(str(folders["tf2"])).signatures["serving_default"]
    for size in (1, 2, 9):
        results = tf2.run("", {"image": IMAGES[:size]})
        expected = direct(image=tf.constant(IMAGES[:size]))
        assert sorted(results) == ["feature", "scores"]
        for alias, value in results.items():
            assert value.dtype == np.float32
            assert value.tobytes() == expected[alias].numpy().tobytes()
    assert list(tf2.run("", {"image": IMAGES}, ["scores"])) == ["scores"]


def test_a_model_of_tensorflow_1(tf1: Servable) -> None:
    assert tf1.run("", {"x": np.array([[1.0], [4.0]], np.float32)})["y"].tolist() == [[2.5], [4.0]]
    examples = [make_example(x).SerializeToString() for x in (-2.0, 3.0)]
    results = tf1.run("classify", {"inputs": np.array(examples, dtype=object)})
    assert results["scores"].tolist() == [[1.0], [3.5]]
    assert results["classes"].tolist() == [[b"low"], [b"high"]]
    assert list(tf1.run("classify", {"inputs": np.array(examples, object)}, ["classes"])) == [
        "classes"
    ]


def test_shapes_besides_the_signature_s_are_left_to_the_graph(tf1: Servable) -> None:
    given = np.array([1.0, 2.0, 5.0], np.float32)  # as in the documentation of Serving's REST API
    assert tf1.run("", {"x": given})["y"].tolist() == [2.5, 3.0, 4.5]


def test_texts_and_scalars(tf2: Servable) -> None:
    texts = np.array([b"", b"\xff\0x", "ü".encode()], dtype=object)
    results = tf2.run("join", {"texts": texts})
    assert results["each"].tolist() == [b"!", b"\xff\0x!", "ü!".encode()]
    assert results["each"].dtype == object
    assert (results["all"].shape, results["all"].item()) == ((), b"\xff\0x\xc3\xbc")
    assert results["lengths"].tolist() == [0, 3, 2]
    rate = tf2.run("facts", {})["rate"]
    assert (rate.shape, rate.dtype, rate.item()) == ((), np.int32, 16000)
    assert tf2.run("join", {"texts": np.array([], dtype=object)})["each"].shape == (0,)


def test_what_the_graph_refuses_is_said_in_its_words_alone(tf1: Servable, tf2: Servable) -> None:
    code, message = refusal(tf2, "multiply", {"x": np.zeros((2, 2), np.float32)})
    assert code == "INVALID_ARGUMENT"
    assert message.startswith("Matrix size-incompatible: In[0]: [2,2], In[1]: [3,4]")
    assert not any(words in message for words in ("stack traces", "[Op:", "Detected at"))
    for text, shown in ((b"garbage", "'garbage'"), (b"\xff", "'\ufffd'")):  # it quotes the input
        code, message = refusal(tf1, "classify", {"inputs": np.array([text], object)})
        assert code == "INVALID_ARGUMENT"
        assert message.startswith(f"Could not parse example input, value: {shown}")


def test_types_are_not_converted(tf1: Servable, tf2: Servable) -> None:
    for servable, signature, alias in ((tf1, "", "x"), (tf2, "multiply", "x")):
        expected = "Expects arg[0] to be float but double is provided"
        given = {alias: np.zeros((1, 3), np.float64)}
        assert refusal(servable, signature, given) == ("INVALID_ARGUMENT", expected)
    expected = "Expects arg[0] to be string but int32 is provided"
    assert refusal(tf2, "join", {"texts": np.zeros(1, np.int32)}) == ("INVALID_ARGUMENT", expected)


def test_signatures_are_described_as_they_are_stored(tf1: Servable, tf2: Servable) -> None:
    assert list(tf2.signatures) == ["count", "facts", "join", "multiply", "serving_default"]
    assert "__saved_model_init_op" in tf2.signature_defs
    spec = tf2.signatures["serving_default"].inputs["image"]
    assert spec == TensorSpec("image", "serving_default_image:0", "DT_FLOAT", (None, 16, 16, 1))
    assert tf2.signatures["join"].outputs["each"].dtype == "DT_STRING"
    assert tf1.signatures["classify"].method_name == "tensorflow/serving/classify"
    assert tf1.signature_defs["serving_default"].inputs["x"].name == "x:0"


def test_inputs_with_a_default_in_the_signature_may_be_left_out(copy: Path) -> None:
    saved_model = saved_model_pb2.SavedModel()
    saved_model.ParseFromString((copy / "saved_model.pb").read_bytes())
    defaults = saved_model.meta_graphs[0].signature_def["count"].defaults
    defaults["inputs"].CopyFrom(tf.make_tensor_proto([20, 3]))
    (copy / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    servable = load_servable("m", 1, copy)
    assert servable.run("count", {})["calls"] == 23
    assert servable.run("count", {"inputs": np.array([1], np.int32)})["calls"] == 24


def test_calls_from_many_threads_do_not_mix(tf1: Servable, tf2: Servable) -> None:
    expected = [tf2.run("", {"image": IMAGES[i : i + 1]})["scores"] for i in range(len(IMAGES))]

    def call(number: int) -> bool:
        i = number % len(IMAGES)
        y = tf1.run("", {"x": np.full((1, 1), number, np.float32)})["y"].item()
        scores = tf2.run("", {"image": IMAGES[i : i + 1]})["scores"]
        return y == number / 2 + 2 and scores.tobytes() == expected[i].tobytes()

    with ThreadPoolExecutor(8) as clients:
        assert all(clients.map(call, range(300)))


# --- batches


def test_a_batch_computes_what_a_direct_call_with_these_rows_does(tf2: Servable) -> None:
    gate = threading.Event()
    sizes: list[int] = []

    def execute(name: str, inputs: Any, outputs: Any) -> dict[str, np.ndarray]:
        sizes.append(len(inputs["image"]))
        assert gate.wait(WAIT_S)
        return tf2.execute(name, inputs, outputs)

    scheduler = BatchScheduler(1)
    batcher = ServableBatcher(scheduler, execute, BatchingParameters(num_batch_threads=1))
    signature = tf2.signatures["serving_default"]
    clients = ThreadPoolExecutor(9)
    calls = []
    for i in range(len(IMAGES)):
        inputs = {"image": IMAGES[i : i + 1]}
        calls.append(clients.submit(batcher.run, signature, inputs, ("scores",), None))
        # The first is running when the others come, and these come in order.
        wait_until(lambda i=i: len(sizes) == 1 and scheduler.num_queued == i)  # type: ignore[misc]
    gate.set()
    scores = np.concatenate([call.result(WAIT_S)["scores"] for call in calls])
    scheduler.close()
    clients.shutdown()
    assert sizes == [1, len(IMAGES) - 1]
    together = tf2.run("", {"image": IMAGES[1:]})["scores"]
    assert scores[1:].tobytes() == together.tobytes()
    alone = [tf2.run("", {"image": IMAGES[i : i + 1]})["scores"] for i in range(len(IMAGES))]
    # The order of sums depends on the size of a batch; measured here: 6e-8.
    np.testing.assert_allclose(scores, np.concatenate(alone), rtol=0, atol=1e-6)


# --- loading


def test_what_cannot_be_loaded_is_said_in_serving_s_words(copy: Path, tmp_path: Path) -> None:
    error = load_error(tmp_path / "none")
    assert error.code == "NOT_FOUND"
    assert error.message.startswith(
        f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {tmp_path}"
    )
    error = load_error(copy, LoadOptions(tags=("serve", "tpu")))
    assert error.code == "NOT_FOUND"
    assert "Could not find meta graph def matching supplied tags: { serve tpu }" in error.message
    shutil.rmtree(copy / "variables")
    error = load_error(copy)
    assert "variables" in error.message
    (copy / "saved_model.pb").write_bytes(b"rubbish")
    error = load_error(copy)
    assert error.code == "DATA_LOSS"
    assert error.message == f"Can't parse {copy / 'saved_model.pb'} as binary proto"
    (copy / "saved_model.pb").rename(copy / "saved_model.pbtxt")
    error = load_error(copy)
    assert error.message.startswith(f"Can't parse {copy / 'saved_model.pbtxt'} as text proto")


def test_a_damaged_model_of_tensorflow_1(folders: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folders["tf1"], tmp_path / "copy"))
    shutil.rmtree(copy / "variables")
    assert "variables" in load_error(copy).message


def test_what_is_unloaded_is_gone(folders: dict[str, Path]) -> None:
    def count_variables() -> int:
        gc.collect()
        # By type: to ask a proxy whose object is gone for its class is an error.
        return sum(issubclass(type(thing), tf.Variable) for thing in gc.get_objects())

    before = count_variables()
    servables = [load_servable("m", i, folders["tf2"]) for i in range(3)]
    servables[0].run("", {"image": IMAGES})
    assert count_variables() >= before + 9
    for servable in servables:
        servable.close()
    del servable, servables
    assert count_variables() == before


# --- warm-up


def warm_up(folder: Path, *records: bytes) -> Path:
    shutil.rmtree(folder / "assets.extra", ignore_errors=True)
    write_warm_up(folder, records)
    return folder


def count_record(value: int) -> bytes:
    return encode_predict("m", "count", {"inputs": tf.make_tensor_proto([value])})


def calls_of(folder: Path, **options: Any) -> int:
    servable = load_servable("m", 1, folder, LoadOptions(**options))
    return int(servable.run("count", {"inputs": np.array([0], np.int32)})["calls"])


def test_warm_up_requests_are_replayed_before_anyone_else_s(copy: Path) -> None:
    assert calls_of(copy) == 0
    warm_up(copy, count_record(1), count_record(10))
    assert calls_of(copy) == 11
    assert calls_of(copy, warm_up_iterations=3) == 33
    assert calls_of(copy, warm_up=False) == 0


def test_examples_are_replayed(folders: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folders["tf1"], tmp_path / "copy"))
    warm_up(copy, encode_classify("m", "classify", [make_example(1.0), make_example(2.0)]))
    load_servable("m", 1, copy).close()
    warm_up(copy, encode_classify("m", "classify", [tf.train.Example()]))  # no feature x
    assert load_error(copy).code == "INVALID_ARGUMENT"


def test_a_version_whose_warm_up_fails_is_not_served(copy: Path) -> None:
    warm_up(copy, encode_predict("m", "none", {}))
    assert load_error(copy).message == 'Serving signature key "none" not found.'
    warm_up(copy, b"\xff\xff")
    assert load_error(copy).message.startswith("Failed to parse warmup record")
    warm_up(copy, *[count_record(1)] * 1001)
    error = load_error(copy)
    assert error.message.startswith("Number of warmup records exceeds the maximum (1000) at ")
    path = copy / "assets.extra" / "tf_serving_warmup_requests"
    path.write_bytes(b"no TFRecord, whatever its name says")
    assert load_error(copy).code == "DATA_LOSS"


# --- all together


def test_a_manager_serves_real_models(folders: dict[str, Path]) -> None:
    configs = [
        ModelConfig(name, folder.parent, VersionPolicy("all")) for name, folder in folders.items()
    ]
    manager = ModelManager(configs, batching=BatchingParameters(), report=lambda line: None)
    manager.start()
    try:
        with manager.lease("tf1", 1) as servable:
            x = np.array([[1.0]], np.float32)
            assert servable.run("", {"x": x})["y"].tolist() == [[2.5]]
        with manager.lease("tf2") as servable:
            results = servable.run("join", {"texts": np.array([b"a", b"b"], dtype=object)})
            assert results["all"].item() == b"ab"  # not per row: run without others
            assert servable.run("facts", {})["rate"] == 16000
    finally:
        manager.close()
    assert [status.state for status in manager.status("tf2")] == ["END"]
