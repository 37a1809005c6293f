"""Keeps the right versions of the models loaded, and lends them to requests.

One thread looks at the folders, loads and unloads. A new version is loaded first, then answers, and
only then the old one goes, when the last request that uses it is done; a version that cannot be
loaded changes nothing but its own status. No TensorFlow here: what loads a version is an argument.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from esc_tf.errors import RequestError
from serving.batching.batcher import ServableBatcher
from serving.batching.parameters import BatchingParameters, read_model_parameters
from serving.batching.scheduler import BatchScheduler, ObserveBatch
from serving.errors import ServingError
from serving.models.config import ModelConfig, check_configs
from serving.models.labels import Labels, choose_labels, find_labelled
from serving.models.servable import Servable
from serving.models.states import VersionStatus
from serving.models.stream import LoadVersion, ModelStream, RetryPolicy
from serving.models.versions import choose_versions

__all__ = ["ModelManager", "VersionStatus"]


def _load_saved_model(model_name: str, version: int, folder: Path) -> Servable:
    from serving.models.saved_model import load_servable  # TensorFlow comes with the first model

    return load_servable(model_name, version, folder)


class ModelManager:
    """Loads, watches, switches and unloads versions of several models.

    Args:
        configs: the models.
        poll_wait_s: seconds between two looks at the folders; 0 looks once and at each ``reload``.
        batching: parameters of ``--batching_parameters_file``; None runs each request alone.
        batching_per_model: read them from ``batching_params.pbtxt`` in each version's folder
            instead, and run the versions without that file unbatched; threads are of ``batching``.
        num_load_retries: how often the load of a broken version is tried again, besides each time
            that its files have changed.
        load_retry_interval_s: seconds between two tries.
        allow_labels_for_unavailable: let a label that is new name a version that is not AVAILABLE.
        load: loads one version; by default any SavedModel with the tag ``serve``.
        observe_batch: is told of each batch that was run, for metrics.
        report: takes lines for the log.

    Raises:
        ServingError: the list of models is wrong; see ``check_configs``.
    """

    def __init__(
        self,
        configs: Sequence[ModelConfig],
        *,
        poll_wait_s: float = 1.0,
        batching: BatchingParameters | None = None,
        batching_per_model: bool = False,
        num_load_retries: int = 5,
        load_retry_interval_s: float = 60.0,
        allow_labels_for_unavailable: bool = False,
        load: LoadVersion = _load_saved_model,
        observe_batch: ObserveBatch | None = None,
        report: Callable[[str], object] = print,
    ) -> None:
        check_configs(configs)
        self._configs = tuple(configs)
        self._poll_wait_s = poll_wait_s
        self._batching = batching
        self._batching_per_model = batching_per_model
        self._retry = RetryPolicy(num_load_retries, load_retry_interval_s)
        self._allow_labels_for_unavailable = allow_labels_for_unavailable
        self._load_version = load
        self._report = report
        self._scheduler = (
            BatchScheduler(batching.num_batch_threads, observe_batch) if batching else None
        )
        # Guards all that follows, and every change of a stream's versions.
        self._changed = threading.Condition()
        self._streams: dict[str, ModelStream] = {}
        self._labels: Labels = {}
        self._said: dict[str, str] = {}
        self._num_asked = 0  # looks that somebody waits for
        self._num_answered = 0
        self._closing = False
        self._thread: threading.Thread | None = None

    # --- what requests use

    @property
    def model_names(self) -> tuple[str, ...]:
        """Names of the models that are configured now."""
        return tuple(config.name for config in self._configs)

    @property
    def num_queued(self) -> int:
        """How many requests wait for a batch now; 0 without batching."""
        return self._scheduler.num_queued if self._scheduler else 0

    def is_ready(self) -> bool:
        """Tell whether every configured model has a version AVAILABLE."""
        with self._changed:
            streams = [self._streams.get(config.name) for config in self._configs]
            return all(stream is not None and stream.available for stream in streams)

    @contextlib.contextmanager
    def lease(
        self, model_name: str, version: int | None = None, label: str | None = None
    ) -> Iterator[Servable]:
        """Borrow a version, which stays loaded until the block ends.

        Args:
            model_name: as in ``/v1/models/NAME``.
            version: its number; None for the highest that is AVAILABLE.
            label: instead of a number.

        Raises:
            ServingError: NOT_FOUND when there is no such version; INVALID_ARGUMENT for an unknown
                label.
        """
        with self._changed:
            if label is not None:
                version = find_labelled(self._labels, model_name, label)
            stream = self._streams.get(model_name)
            held = stream.find(version) if stream else None
            if held is None:
                wanted = (
                    f"Latest({model_name})"
                    if version is None
                    else f"Specific({model_name}, {version})"
                )
                raise ServingError("NOT_FOUND", f"Servable not found for request: {wanted}")
            held.num_leases += 1
        assert held.servable is not None
        try:
            yield held.servable
        finally:
            with self._changed:
                held.num_leases -= 1
                if held.is_drained:
                    self._changed.notify_all()

    def status(
        self, model_name: str, version: int | None = None, label: str | None = None
    ) -> list[VersionStatus]:
        """Tell the states of a model's versions, the highest number first.

        Args:
            model_name: as in ``/v1/models/NAME``.
            version: of this one alone; None for all that there ever were.
            label: looked at by nobody: Serving, too, answers with all versions for a label.

        Raises:
            ServingError: NOT_FOUND when nothing is known of it.
        """
        with self._changed:
            stream = self._streams.get(model_name)
            statuses = stream.list_statuses() if stream else []
        if version is not None:
            found = [status for status in statuses if status.version == version]
            if not found:
                raise ServingError(
                    "NOT_FOUND", f"Could not find version {version} of model {model_name}"
                )
            return found
        if not statuses:
            raise ServingError("NOT_FOUND", f"Could not find any versions of model {model_name}")
        return statuses

    # --- what the server uses

    def start(self) -> None:
        """Load what there is, then watch in a thread.

        Returns when each model has every version that its policy wants either AVAILABLE or
        failed. A model whose folder is missing or holds no version yet does not hold this up: the
        thread goes on looking for it.

        Raises:
            ServingError: FAILED_PRECONDITION for a label of a version that is not AVAILABLE.
        """
        self._thread = threading.Thread(target=self._watch, name="model-manager", daemon=True)
        self._thread.start()
        self._wait_for_a_look()
        self._set_labels()

    def reload(self, configs: Sequence[ModelConfig]) -> None:
        """Serve other models, or the same with other versions or labels.

        Models that are gone are unloaded, new ones loaded; labels change after that, so that they
        may name a version that was loaded just now. Blocks until all this is done.

        Raises:
            ServingError: the list is wrong, and nothing changes; or FAILED_PRECONDITION for a label
                of a version that is not AVAILABLE, and the labels stay as they were.
        """
        check_configs(configs)
        with self._changed:
            self._configs = tuple(configs)
        self._wait_for_a_look()
        self._set_labels()

    def close(self) -> None:
        """Stop watching, wait for the requests that are running, and unload everything."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        if self._scheduler is not None:
            self._scheduler.close()

    # --- the thread

    def _watch(self) -> None:
        next_look = time.monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work, self._choose_wait_s(next_look))
                if self._closing:
                    break
                is_due = self._poll_wait_s > 0 and time.monotonic() >= next_look
                look = is_due or self._num_answered < self._num_asked
                asked, configs = self._num_asked, self._configs
            try:
                if look:
                    next_look = time.monotonic() + self._poll_wait_s
                    self._look(configs)
                for stream in self._streams.values():
                    stream.finish_unloads()
                    stream.revive_failed()
                    stream.advance()
            except Exception as error:  # what is loaded must go on being watched
                self._report(f"looking after the models failed: {type(error).__name__}: {error}")
            with self._changed:
                self._num_answered = asked
                self._changed.notify_all()
        self._unload_all()

    def _look(self, configs: Sequence[ModelConfig]) -> None:
        """Tell each stream which versions lie on disk."""
        for config in configs:
            if config.name not in self._streams:
                stream = ModelStream(
                    config.name, self._load, self._retry, self._changed, self._report
                )
                with self._changed:
                    self._streams[config.name] = stream
            folders = choose_versions(config)
            if folders is None:
                # A share may be away for a moment: what is loaded stays.
                self._say(config, f"Could not find base path {config.base_path}")
                continue
            if folders:
                self._said.pop(config.name, None)
            else:
                self._say(
                    config,
                    f"No versions found under base path {config.base_path}. Did you forget to "
                    "name your leaf directory as a number (eg. '/1/')?",
                )
            self._streams[config.name].want(folders)
        for name in set(self._streams) - {config.name for config in configs}:
            self._streams[name].want({})

    def _unload_all(self) -> None:
        streams = list(self._streams.values())
        for stream in streams:
            stream.want({})
            stream.advance()
        while not all(stream.is_empty for stream in streams):
            with self._changed:
                self._changed.wait_for(lambda: any(stream.has_drained for stream in streams))
            for stream in streams:
                stream.finish_unloads()

    def _load(self, model_name: str, version: int, folder: Path) -> Servable:
        parameters = self._batching
        if parameters is not None and self._batching_per_model:
            try:
                parameters = read_model_parameters(folder)
            except RequestError as error:
                raise ServingError("INVALID_ARGUMENT", str(error)) from error
        servable = self._load_version(model_name, version, folder)
        if parameters is not None and self._scheduler is not None:
            servable.batcher = ServableBatcher(self._scheduler, servable.execute, parameters)
        return servable

    def _has_work(self) -> bool:
        drained = any(stream.has_drained for stream in self._streams.values())
        return self._closing or self._num_answered < self._num_asked or drained

    def _choose_wait_s(self, next_look: float) -> float | None:
        """Return the seconds until something is due; None when nothing will be by itself."""
        times = [at for stream in self._streams.values() if (at := stream.retry_at) is not None]
        if self._poll_wait_s > 0:
            times.append(next_look)
        return max(min(times) - time.monotonic(), 0.0) if times else None

    def _wait_for_a_look(self) -> None:
        """Let the thread look at the folders now, and wait until it has loaded what it found."""
        with self._changed:
            self._num_asked += 1
            asked = self._num_asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._num_answered >= asked or self._closing)

    def _set_labels(self) -> None:
        with self._changed:
            available = {name: stream.available for name, stream in self._streams.items()}
            self._labels = choose_labels(
                self._configs, available, self._labels, self._allow_labels_for_unavailable
            )

    def _say(self, config: ModelConfig, message: str) -> None:
        """Report what is wrong with a model's folder once, not at every look."""
        if self._said.get(config.name) != message:
            self._said[config.name] = message
            self._report(f"model {config.name}: {message}")
