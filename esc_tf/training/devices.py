"""Which devices a run uses, and the ``tf.distribute`` strategy over them."""

from __future__ import annotations

import contextlib
import functools
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import keras
import numpy as np
import tensorflow as tf

from esc_tf.config import DistributionConfig
from esc_tf.errors import RequestError, TrainingError
from esc_tf.evaluation.workers import Workers, find_workers
from esc_tf.training.cluster import Cluster, read_cluster
from esc_tf.training.termination import StopSignal

_SHARE_PATIENCE_S = 10.0
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Devices:
    """A strategy and what to write down about it.

    Attributes:
        strategy: every step runs under it, also on a single device.
        description: name of the strategy, the devices and their hardware, JSON-able.
        workers: the processes that share the run; most often this one alone.
    """

    strategy: tf.distribute.Strategy
    description: dict[str, object]
    workers: Workers


def build_devices(
    config: DistributionConfig,
    *,
    connect: bool = True,
    stop: StopSignal | None = None,
    report: Callable[[str], object] = lambda line: None,
) -> Devices:
    """Set up devices and strategy as configured.

    ``auto`` joins the cluster in ``TF_CONFIG`` if it has several workers; else it takes every
    visible GPU (memory growth on): one → one device, several → mirrored; none → the CPU.

    A cluster must be joined before TensorFlow runs its first operation in this process.

    Args:
        config: the ``distribution`` section.
        connect: whether to join a cluster; otherwise it is described alone.
        stop: can end the process while it waits for other workers.
        report: takes a line for the user where that may take long.

    Raises:
        RequestError: a named device does not exist, ``TF_CONFIG`` is wrong or missing, or the
            runtime is already set up otherwise.
    """
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # Where the runtime is up already, growth was decided by whoever started it.
        with contextlib.suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(gpu, True)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    cluster = _find_cluster(config)
    if cluster is not None:
        return _join_cluster(cluster, connect, stop or StopSignal(), report)
    if config.logical_cpu_devices is not None:
        _split_cpu(config.logical_cpu_devices)

    known = [
        _short_name(item.name)
        for kind in ("GPU", "CPU")
        for item in tf.config.list_logical_devices(kind)
    ]
    names = config.devices or [name for name in known if name.startswith("GPU")]
    if not names:
        names = [name for name in known if name.startswith("CPU")]
        if config.logical_cpu_devices is None:
            names = names[:1]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise RequestError(
            f"distribution.devices: {', '.join(unknown)} not on this machine "
            f"(there are: {', '.join(known)})"
        )
    single = config.strategy == "one_device" or (config.strategy == "auto" and len(names) == 1)
    strategy: tf.distribute.Strategy
    if single:
        names = names[:1]
        strategy = tf.distribute.OneDeviceStrategy(names[0])
    else:
        strategy = tf.distribute.MirroredStrategy(
            names, cross_device_ops=None if gpus else tf.distribute.ReductionToOneDevice()
        )
    return Devices(
        strategy,
        {
            "strategy": type(strategy).__name__,
            "devices": names,
            "hardware": [_hardware(gpu) for gpu in gpus] or ["CPU"],
            "num_replicas": strategy.num_replicas_in_sync,
        },
        Workers(strategy),
    )


def _find_cluster(config: DistributionConfig) -> Cluster | None:
    """The cluster to join, if any."""
    if config.strategy not in ("auto", "multi_worker"):
        return None
    cluster = read_cluster(os.environ)
    if config.strategy == "auto" and (cluster is None or len(cluster.addresses) == 1):
        return None
    if cluster is None:
        raise RequestError(
            "distribution.strategy: multi_worker needs the environment variable TF_CONFIG, "
            "which names the workers"
        )
    named = {"devices": config.devices, "logical_cpu_devices": config.logical_cpu_devices}
    problems = [
        f"distribution.{key}: several workers take all of their devices; leave it null"
        for key, value in named.items()
        if value is not None
    ]
    if problems:
        raise RequestError(problems)
    return cluster


def _join_cluster(
    cluster: Cluster, connect: bool, stop: StopSignal, report: Callable[[str], object]
) -> Devices:
    facts: dict[str, object] = {
        "strategy": "MultiWorkerMirroredStrategy",
        "devices": list(cluster.addresses),
        "num_workers": len(cluster.addresses),
    }
    if not connect:
        alone = tf.distribute.get_strategy()
        return Devices(alone, facts, Workers(alone))
    here = f"worker {cluster.index + 1} of {len(cluster.addresses)}"
    report(f"{here}: waiting for {', '.join(cluster.addresses)}")
    try:
        with stop.ends_process():
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
        stop.take_back()  # TensorFlow catches SIGTERM in a cluster, for a service unused here
    except RuntimeError as error:
        raise RequestError(
            f"distribution.strategy: a cluster can only be joined before TensorFlow has started "
            f"in this process; start a new one ({error})"
        ) from None
    except tf.errors.OpError as error:
        raise TrainingError(
            f"{here} could not join the others: {_first_line(error)}; check TF_CONFIG and that "
            f"{cluster.addresses[cluster.index]} is free on this machine, then start it again"
        ) from None
    hardware = [_hardware(gpu) for gpu in tf.config.list_physical_devices("GPU")] or ["CPU"]
    workers = find_workers(strategy)
    return Devices(
        strategy,
        {**facts, "hardware": hardware, "num_replicas": strategy.num_replicas_in_sync},
        workers,
    )


def check_agreement(workers: Workers, facts: Mapping[str, object]) -> None:
    """Make sure that all workers were started for the same run.

    Args:
        workers: those that share the run.
        facts: name → what must be equal on all of them.

    Raises:
        RequestError: one sentence for each fact in which a worker differs from the first.
    """
    if workers.count == 1:
        return
    digests = [zlib.crc32(repr(value).encode()) for value in facts.values()]
    found = workers.gather(np.array(digests, np.int64))
    problems = [
        f"worker {index + 1} of {workers.count} was started with another {name} than worker 1; "
        "start all of them with the same command on the same data"
        for index, row in enumerate(found)
        for name, mine, first in zip(facts, row, found[0], strict=True)
        if mine != first
    ]
    if problems:
        workers.part()  # so that each of them can say what is wrong
        raise RequestError(problems)


def check_shared(workers: Workers, path: Path) -> None:
    """Make sure that all workers see a file that the chief has written.

    Raises:
        RequestError: the workers that do not are named.
    """
    workers.wait()
    # A network file system may take some seconds to show a new file.
    deadline = time.monotonic() + (_SHARE_PATIENCE_S if workers.count > 1 else 0.0)
    while not path.is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    blind = np.flatnonzero(workers.gather(np.array(path.is_file(), np.int32)) == 0)
    if blind.size:
        workers.part()
        raise RequestError(
            f"{path} is not there for worker {', '.join(str(index + 1) for index in blind)} of "
            f"{workers.count}; all of them need the same --run-dir on a shared disk"
        )


def explain_lost_workers(
    body: Callable[_Arguments, _Result],
) -> Callable[_Arguments, _Result]:
    """Let ``body`` raise ``TrainingError`` where TensorFlow says that another worker is gone."""

    @functools.wraps(body)
    def run(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
        try:
            return body(*arguments, **options)
        except tf.errors.OpError as error:
            if not isinstance(error, tf.errors.UnavailableError) and "ollective" not in str(error):
                raise
            raise TrainingError(
                "another worker of the cluster stopped, so this one cannot go on; its own log "
                "says why. Start all workers again with --resume (or --resume-if-started)"
            ) from error

    return run


@contextlib.contextmanager
def synchronize_batch_norm(model: keras.Model, wanted: bool) -> Iterator[None]:
    """Let batch normalisation look at the whole batch, on all devices, while training inside."""
    layers = find_batch_norms(model) if wanted else []
    for layer in layers:
        layer.synchronized = True
    try:
        yield
    finally:
        for layer in layers:
            layer.synchronized = False


def find_batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """All batch normalisation layers of a model, however deep."""
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _split_cpu(count: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    wanted = [tf.config.LogicalDeviceConfiguration()] * count
    try:
        tf.config.set_logical_device_configuration(cpu, wanted)
    except RuntimeError:
        if len(tf.config.list_logical_devices("CPU")) < count:
            raise RequestError(
                f"distribution.logical_cpu_devices: {count} can only be set before TensorFlow has "
                "started in this process; start a new one"
            ) from None


def _short_name(name: str) -> str:
    return name.rsplit("device:", 1)[-1]


def _hardware(gpu: tf.config.PhysicalDevice) -> str:
    return str(tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name))
