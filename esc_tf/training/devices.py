"""Which devices a run uses, and the ``tf.distribute`` strategy over them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import tensorflow as tf

from esc_tf.config import DistributionConfig
from esc_tf.errors import RequestError


@dataclass(frozen=True)
class Devices:
    """A strategy and what to write down about it.

    Attributes:
        strategy: every step runs under it, also on a single device.
        description: name of the strategy, the devices and their hardware, JSON-able.
    """

    strategy: tf.distribute.Strategy
    description: dict[str, object]


def build_devices(config: DistributionConfig) -> Devices:
    """Set up devices and strategy as configured.

    ``auto`` takes every visible GPU (memory growth on): one → one device, several → mirrored;
    none → the CPU.

    Args:
        config: the ``distribution`` section.

    Raises:
        RequestError: a named device does not exist, or the runtime is already set up otherwise.
    """
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # Where the runtime is up already, growth was decided by whoever started it.
        with contextlib.suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(gpu, True)
    if config.logical_cpu_devices is not None:
        _split_cpu(config.logical_cpu_devices)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()

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
    )


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
