"""This package's input pipeline, up to the features of a batch."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import tensorflow as tf

from benchmarks.contestants.settings import Round
from esc_tf.augment import build_waveform_augment
from esc_tf.config import Esc50DataConfig, SyntheticDataConfig, load_experiment
from esc_tf.data import ClipPipeline, load_clips, load_data_set
from esc_tf.data.synthetic import generate_clip
from esc_tf.frontends import build_front_end


def write_sounds(root: Path, audio: Any) -> None:
    """Write 200 generated clips as WAV files in ESC-50's layout."""
    config = SyntheticDataConfig(name="synthetic", clips_per_class_and_fold=4)
    for name in ("audio", "meta"):
        (root / name).mkdir(parents=True)
    with (root / "meta" / "esc50.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["filename", "fold", "target", "category", "src_file"])
        for number, record in enumerate(load_data_set(config, audio, 0).records):
            name = f"{record.fold}-{number}-A-{record.label_id}.wav"
            soundfile.write(
                root / "audio" / name, generate_clip(record.synthesis), audio.sample_rate_hz
            )
            table.writerow([name, record.fold, record.label_id, record.label_name, name])


def set_up(settings: dict[str, Any]) -> Round:
    """A function that makes the features of one epoch and returns the seconds of a clip."""
    root, folder = Path(settings["root"]), Path(settings["folder"])
    experiment = load_experiment(settings["config"])
    audio = experiment.audio
    if not root.exists():
        write_sounds(root, audio)
    config = Esc50DataConfig(name="esc50", root=str(root), cache_dir=str(folder / "cache"))
    data_set, clips, _ = load_clips(config, audio, 0)
    num_classes, batch_size = len(data_set.label_names), min(32, len(clips))
    options = {"audio": audio, "num_classes": num_classes, "batch_size": batch_size}
    pipeline = ClipPipeline(
        clips,
        training=True,
        augment_waveform=build_waveform_augment(experiment.augment, audio),
        **options,
    )
    front_end = build_front_end(experiment.front_end, audio.sample_rate_hz)
    extract = tf.function(lambda batch: front_end(batch["waveform"], batch["num_samples"]))
    plain = next(iter(ClipPipeline(clips, training=False, **options).epoch()))
    whole = int(np.argmax(plain["num_samples"]))  # no padding, about which the two might differ
    path = str(clips[whole].record.path)
    np.savez(folder / "clip.npz", path=path, features=extract(plain)[whole].numpy())
    paths = [str(clip.record.path) for clip in clips]
    (folder / "paths.json").write_text(json.dumps(paths))
    epochs = iter(range(10**6))

    def pass_over() -> float:
        start = time.perf_counter()
        for batch in pipeline.epoch(next(epochs)):
            extract(batch).numpy()
        return (time.perf_counter() - start) / (pipeline.num_batches * batch_size)

    return pass_over
