"""What learned front ends cost beside the fixed mel spectrogram, in inference and in training.

    python -m benchmarks.front_end_training [--config FILE] [--set KEY=VALUE]… [--batch-size B]
        [--rounds N] [--json]

Without a configuration: one second of sound at 22,050 Hz, PiczakNet with dense layers of 500, and
before it the mel spectrogram of 60 bands, the same as ``mel_init`` (all of it trained, the bank
alone, nothing), HeuriNet and MSTNet. With one: that experiment's own mel spectrogram and the same
as ``mel_init``. Measured are the front end alone, inference of the whole classifier, and the step
that ``esc_tf.train`` runs, on batches of noise. Rounds of all contestants alternate, so that
another load on the machine meets all of them; the first round does not count, and of the others
the median does. A ratio is against the fixed front end of the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from benchmarks.training import count_cores, describe_processor
from esc_tf.config import Experiment, MelConfig, build_experiment
from esc_tf.config.loading import apply_overrides, merge, read_config_file
from esc_tf.errors import ConfigError, EscTfError
from esc_tf.tasks.classifier import build_classifier
from esc_tf.training.devices import build_devices
from esc_tf.training.optimizers import build_optimizer
from esc_tf.training.supervised import build_train_step

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
FIXED = "fixed mel"
_MEL_INIT = {
    "mel_init": ["dft", "mel"],
    "mel_init, bank alone trained": ["mel"],
    "mel_init, nothing trained": [],
}
TASKS = ("front end", "inference", "training step")
Round = Callable[[], object]


def list_contestants(config: Path | None, overrides: list[str]) -> dict[str, Experiment]:
    """Name → experiment; the first is the fixed mel spectrogram.

    Raises:
        ConfigError: a configuration is wrong, or its front end is no mel spectrogram.
    """
    if config is not None:
        raw = read_config_file(config)
        others: dict[str, Any] = {}
    else:
        raw = merge(
            {"name": "benchmark", "data": {"name": "synthetic"}},
            merge(
                read_config_file(CONFIGS / "front_end" / "log_mel_60.yaml"),
                read_config_file(CONFIGS / "model" / "piczak_net.yaml"),
            ),
        )
        raw = merge(raw, {"model": {"dense_units": 500}})
        others = {
            name: read_config_file(CONFIGS / "front_end" / f"{name}.yaml")
            for name in ("heurinet", "mstnet")
        }
    raw = apply_overrides(raw, overrides)
    if not isinstance(build_experiment(raw).front_end, MelConfig):
        raise ConfigError(
            f"front_end.name: {raw['front_end']['name']} is no mel spectrogram; name an experiment "
            "with log_mel or mel_init"
        )
    # Augmentation and what a run starts from are no part of what is measured.
    raw.pop("augment", None)
    raw.get("recipe", {}).pop("fine_tuning", None)
    fixed = build_experiment(merge(raw, {"front_end": {"name": "log_mel"}}))
    contestants = {FIXED: fixed}
    for name, trained in _MEL_INIT.items():
        front_end = {"name": "mel_init", "trained": trained}
        contestants[name] = build_experiment(merge(raw, {"front_end": front_end}))
    for name, section in others.items():
        contestants[name] = build_experiment(apply_overrides(merge(raw, section), overrides))
    return contestants


def build_rounds(experiment: Experiment, batch_size: int) -> dict[str, Round]:
    """One function for each of ``TASKS``, on a batch of noise of its own."""
    raw = experiment.model_dump(mode="json")
    experiment = build_experiment(merge(raw, {"recipe": {"batch_size": batch_size}}))
    devices = build_devices(experiment.distribution)
    num_classes = experiment.data.num_classes
    with devices.strategy.scope():
        model = build_classifier(experiment, [f"class {index}" for index in range(num_classes)])
        optimizer = build_optimizer(experiment.recipe, 1, experiment.distribution.precision)
        optimizer.build(model.trainable_variables)
    step = build_train_step(model, optimizer, devices.strategy, experiment)
    rng = np.random.default_rng(0)
    waveform = 0.1 * rng.standard_normal((batch_size, experiment.num_samples)).astype(np.float32)
    labels = np.eye(num_classes, dtype=np.float32)[np.arange(batch_size) % num_classes]
    batch = {
        "waveform": tf.constant(waveform),
        "num_samples": tf.fill([batch_size], experiment.num_samples),
        "label": tf.constant(labels),
    }
    extract = tf.function(model.extract_features)
    classify = tf.function(lambda waveform: model(waveform)["logits"])
    return {
        "front end": lambda: extract(batch["waveform"]).numpy(),
        "inference": lambda: classify(batch["waveform"]).numpy(),
        "training step": lambda: float(step(batch)["loss"]),
    }


def measure(
    contestants: dict[str, Experiment], batch_size: int, num_rounds: int
) -> list[dict[str, Any]]:
    """Time every task of every contestant; a row for each contestant."""
    tf.get_logger().setLevel("ERROR")  # every contestant's graph is traced anew, as is meant
    rounds = {
        name: build_rounds(experiment, batch_size) for name, experiment in contestants.items()
    }
    seconds: dict[tuple[str, str], list[float]] = {}
    for number in range(num_rounds + 1):
        for task in TASKS:
            for name, tasks in rounds.items():
                start = time.perf_counter()
                tasks[task]()
                if number:
                    taken = time.perf_counter() - start
                    seconds.setdefault((name, task), []).append(taken)
    median = {key: statistics.median(values) for key, values in seconds.items()}
    return [
        {
            "name": name,
            **{
                task: {
                    "ms_per_clip": 1e3 * median[name, task] / batch_size,
                    "best_ms_per_clip": 1e3 * min(seconds[name, task]) / batch_size,
                    "ratio": median[name, task] / median[FIXED, task],
                }
                for task in TASKS
            },
        }
        for name in contestants
    ]


def format_rows(rows: list[dict[str, Any]]) -> str:
    """The rows as a table: milliseconds a clip, and in brackets times the fixed mel's."""
    width = max(len(row["name"]) for row in rows)
    lines = [f"{'ms a clip':{width}}" + "".join(f"{task:>24}" for task in TASKS)]
    for row in rows:
        cells = "".join(
            f"{row[task]['ms_per_clip']:15.2f} ({row[task]['ratio']:5.2f}x)" for task in TASKS
        )
        lines.append(f"{row['name']:{width}}{cells}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the comparison; 0 done, 2 the request was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.front_end_training", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--config", type=Path, help="an experiment with a mel spectrogram")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="K=V")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    if min(arguments.batch_size, arguments.rounds) < 1:
        parser.error("--batch-size and --rounds must be at least 1")
    try:
        contestants = list_contestants(arguments.config, arguments.overrides)
    except EscTfError as error:
        print("\n".join(error.problems), file=sys.stderr)
        return error.exit_code
    result = {
        "config": None if arguments.config is None else str(arguments.config),
        "clip_s": contestants[FIXED].audio.duration_s,
        "batch_size": arguments.batch_size,
        "rounds": arguments.rounds,
        "machine": {
            "device": "GPU" if tf.config.list_physical_devices("GPU") else "CPU",
            "processor": describe_processor(),
            "cores": count_cores(),
            "load_average_before": round(os.getloadavg()[0], 2),
            "tensorflow": tf.__version__,
        },
        "results": measure(contestants, arguments.batch_size, arguments.rounds),
    }
    if arguments.json:
        print(json.dumps(result))
        return 0
    print(
        f"clips of {result['clip_s']:.2f} s, batches of {result['batch_size']}, median of "
        f"{result['rounds']} rounds"
    )
    print(", ".join(f"{key} {value}" for key, value in result["machine"].items()))
    print(format_rows(result["results"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
