"""Clips per second of the input pipeline: the first epoch, which decodes, and later ones.

    python -m benchmarks.pipeline [--data-root DIR] [--json]

The peer is ``librosa.load``, called for the same clips one after the other, as a loader without
a cache does in every epoch.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import librosa
import soundfile
import tensorflow as tf

from esc_tf.augment import build_feature_draw, build_waveform_augment, build_waveform_mixup
from esc_tf.config import AudioConfig, AugmentConfig, Esc50DataConfig, SyntheticDataConfig
from esc_tf.config.augment import (
    FrequencyMaskConfig,
    GainConfig,
    MixupConfig,
    NoiseConfig,
    TimeMaskConfig,
    TimeShiftConfig,
)
from esc_tf.data import ClipPipeline, load_clips, load_data_set
from esc_tf.data.synthetic import generate_clip
from esc_tf.errors import EscTfError

NO_AUGMENT = AugmentConfig()
AUGMENT = AugmentConfig(
    noise=NoiseConfig(probability=0.3),
    time_shift=TimeShiftConfig(probability=0.3),
    gain=GainConfig(probability=0.5),
    frequency_mask=FrequencyMaskConfig(),
    time_mask=TimeMaskConfig(),
    mixup=MixupConfig(on="waveform"),
)


def write_synthetic_folder(root: Path, audio: AudioConfig) -> None:
    """Write 200 generated clips as 16-bit WAV files in ESC-50's layout."""
    config = SyntheticDataConfig(name="synthetic", clips_per_class_and_fold=4)
    (root / "audio").mkdir()
    (root / "meta").mkdir()
    with (root / "meta" / "esc50.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["filename", "fold", "target", "category", "esc10", "src_file", "take"])
        for number, record in enumerate(load_data_set(config, audio, 0).records):
            name = f"{record.fold}-{number}-A-{record.label_id}.wav"
            waveform = generate_clip(record.synthesis)
            soundfile.write(root / "audio" / name, waveform, audio.sample_rate_hz)
            target, category = record.label_id, record.label_name
            table.writerow([name, record.fold, target, category, False, number, "A"])


def measure_s(work: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def run(arguments: argparse.Namespace, root: Path, cache_dir: Path, audio: AudioConfig) -> dict:
    """Measure everything on the clips of one folder."""
    config = Esc50DataConfig(name="esc50", root=str(root), cache_dir=str(cache_dir))

    def load() -> tuple[list, int]:
        data_set, clips, _ = load_clips(config, audio, 0)
        return clips, len(data_set.label_names)

    decoding_s = measure_s(load)
    clips, num_classes = load()

    def build(augment: AugmentConfig) -> ClipPipeline:
        return ClipPipeline(
            clips,
            audio=audio,
            num_classes=num_classes,
            batch_size=min(arguments.batch_size, len(clips)),
            training=True,
            augment_waveform=build_waveform_augment(augment, audio),
            draw=build_feature_draw(augment),
            mix_batch=build_waveform_mixup(augment),
        )

    def pass_over(pipeline: ClipPipeline, epoch: int) -> None:
        for batch in pipeline.epoch(epoch):
            batch["waveform"].numpy()

    result = {
        "clips": len(clips),
        "sample_rate_hz": audio.sample_rate_hz,
        "duration_s": audio.duration_s,
        "cores": os.cpu_count(),
        "tensorflow": tf.__version__,
        "clips_per_second": {},
    }
    speeds = result["clips_per_second"]
    for name, augment in (("plain", NO_AUGMENT), ("augmented", AUGMENT)):
        pipeline = build(augment)
        used = pipeline.num_batches * pipeline.batch_size
        first_s = measure_s(lambda pipeline=pipeline: pass_over(pipeline, 0))
        later_s = min(
            measure_s(lambda pipeline=pipeline, epoch=epoch: pass_over(pipeline, epoch))
            for epoch in range(1, 1 + arguments.repeats)
        )
        speeds[f"epoch_1_{name}"] = 1.0 / (decoding_s / len(clips) + first_s / used)
        speeds[f"epoch_2_{name}"] = used / later_s
    librosa.load(clips[0].record.path, sr=audio.sample_rate_hz)  # its modules load on first use
    peer_s = measure_s(
        lambda: [librosa.load(clip.record.path, sr=audio.sample_rate_hz) for clip in clips]
    )
    speeds["librosa_load"] = len(clips) / peer_s
    result["ratios"] = {
        "epoch_2_to_epoch_1_plain": speeds["epoch_2_plain"] / speeds["epoch_1_plain"],
        "epoch_2_to_epoch_1_augmented": speeds["epoch_2_augmented"] / speeds["epoch_1_augmented"],
        "augmented_to_plain": speeds["epoch_2_augmented"] / speeds["epoch_2_plain"],
        "epoch_2_plain_to_librosa_load": speeds["epoch_2_plain"] / speeds["librosa_load"],
        "epoch_2_augmented_to_librosa_load": speeds["epoch_2_augmented"] / speeds["librosa_load"],
    }
    return result


def format_result(result: dict) -> str:
    """The result as a readable table."""
    lines = [
        f"{result['clips']} clips of {result['duration_s']:g} s at {result['sample_rate_hz']} Hz, "
        f"{result['cores']} cores, TensorFlow {result['tensorflow']}",
        *(f"{name:36}{speed:10.1f} clips/s" for name, speed in result["clips_per_second"].items()),
        *(f"{name:36}{ratio:10.2f} x" for name, ratio in result["ratios"].items()),
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=__doc__)
    parser.add_argument("--data-root", help="folder in ESC-50's layout (default: generated clips)")
    parser.add_argument("--sample-rate-hz", type=int, default=44100)
    parser.add_argument("--duration-s", type=float, default=5.0)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3, help="later epochs; the fastest counts")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    arguments = parser.parse_args(argv)
    audio = AudioConfig(sample_rate_hz=arguments.sample_rate_hz, duration_s=arguments.duration_s)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(arguments.data_root or Path(folder) / "set")
        try:
            if not arguments.data_root:
                root.mkdir()
                write_synthetic_folder(root, audio)
            result = run(arguments, root, Path(folder) / "cache", audio)
        except EscTfError as error:
            print("\n".join(error.problems), file=sys.stderr)
            return error.exit_code
    print(json.dumps(result) if arguments.json else format_result(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
