"""The workers that share a run: who this process is among them, and what they tell each other.

A run on one machine is a single worker; everything here then costs nothing.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from esc_tf.data import EpochPart
from esc_tf.data.graph_errors import find_reason
from esc_tf.errors import RequestError, UnreadableDataError


class Workers:
    """One process for each worker; all of them make the same calls in the same order.

    Args:
        strategy: what the steps run under.
        index: this worker's number; 0 is the chief, which alone writes files.
        count: how many there are.
    """

    def __init__(self, strategy: tf.distribute.Strategy, index: int = 0, count: int = 1) -> None:
        self.strategy, self.index, self.count = strategy, index, count
        self._sum = tf.function(self._sum_values, reduce_retracing=True, autograph=False)

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes the run directory."""
        return self.index == 0

    def take_part(self, first_batch: int = 0) -> EpochPart:
        """This worker's part of an epoch from a batch on."""
        return EpochPart(first_batch, self.index, self.count)

    def gather(self, values: np.ndarray) -> np.ndarray:
        """Bring every worker's array to all: ``(...)`` → ``(workers, ...)``, equal on all.

        Args:
            values: of one shape and one numeric type on all workers.

        Raises:
            tf.errors.UnavailableError: a worker is gone.
        """
        values = np.asarray(values)
        if self.count == 1:
            return values[np.newaxis]
        # Each worker fills its own row and the rows are added: exact, in any number format.
        nothing = np.zeros((self.count, *values.shape), values.dtype)
        mine = nothing.copy()
        mine[self.index] = values
        others = self.strategy.num_replicas_in_sync // self.count - 1
        rows = [tf.constant(mine), *[tf.constant(nothing)] * others]
        return self._sum(self._place(rows)).numpy()

    def _sum_values(self, values: tf.Tensor) -> tf.Tensor:
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)

    def any(self, flag: bool) -> bool:
        """Whether the flag is up on any worker; all get the same answer."""
        return bool(self.gather(np.array(flag, np.float32)).any())

    def wait(self) -> None:
        """Return when every worker has come here."""
        self.any(False)

    def part(self) -> None:
        """Wait for one another for the last time; then every worker may end.

        Raises:
            tf.errors.UnavailableError: a worker is gone that had not come so far.
        """
        self.wait()
        # Who ends at once may take its half of the last message along. So there is one more, which
        # nobody sends before having that one, and which may be lost.
        with contextlib.suppress(tf.errors.OpError):
            self.wait()

    def distribute(self, data_set: tf.data.Dataset) -> Iterator[dict[str, object]]:
        """Spread batches over the devices of this worker.

        Args:
            data_set: the whole batches of a single worker, or this worker's rows of them.

        Raises:
            RequestError: the devices of this worker cannot share its rows evenly.
            UnreadableDataError: while the batches are taken, one cannot be read.
        """
        if self.strategy.num_replicas_in_sync == 1:
            # As they are: the end of TensorFlow's distributed iterators was measured to wait up to
            # a minute for a tuning thread to wake up.
            return _take(iter(data_set))
        if self.count == 1:
            return _take(iter(self.strategy.experimental_distribute_dataset(data_set)))
        num_devices = self.strategy.num_replicas_in_sync // self.count
        num_rows = next(iter(data_set.element_spec.values())).shape[0]
        if num_rows % num_devices:
            raise RequestError(
                f"recipe.batch_size: {num_rows * self.count} clips cannot be shared evenly by "
                f"{self.count} workers with {num_devices} devices each; make it a multiple of "
                f"{self.strategy.num_replicas_in_sync}"
            )
        # By hand: TensorFlow would share files or single elements, and its iterators ask all
        # workers at each batch, so that none could try again alone after a failure.
        if num_devices == 1:
            return _take(iter(data_set))
        data_set = data_set.rebatch(num_rows // num_devices, drop_remainder=True)
        return self._hand_out(_take(iter(data_set)), num_devices)

    def _hand_out(
        self, batches: Iterator[dict[str, object]], num_devices: int
    ) -> Iterator[dict[str, object]]:
        """Give each device of this worker its own of the batches, taken in turn."""
        for first in batches:
            parts = [first, *itertools.islice(batches, num_devices - 1)]
            yield {key: self._place([part[key] for part in parts]) for key in first}

    def _place(self, values: list[object]) -> object:
        """One value a device of this worker, in order."""
        waiting = iter(values)
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: next(waiting)
        )


def _take(batches: Iterator[dict[str, object]]) -> Iterator[dict[str, object]]:
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except tf.errors.ResourceExhaustedError:
            raise
        except tf.errors.OpError as error:
            reason = find_reason(error)
            raise UnreadableDataError(f"data cannot be read: {reason}") from error
        yield batch


def find_workers(strategy: tf.distribute.Strategy) -> Workers:
    """Find this process's place from the strategy that connects it."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return Workers(strategy)
    resolver = strategy.cluster_resolver
    jobs = resolver.cluster_spec().as_dict()
    num_chiefs, num_workers = len(jobs.get("chief", [])), len(jobs.get("worker", []))
    before = num_chiefs if resolver.task_type == "worker" else 0
    return Workers(strategy, before + resolver.task_id, num_chiefs + num_workers)
