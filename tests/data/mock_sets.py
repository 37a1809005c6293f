"""A small set in the layout that a configuration asks for, so that its experiment can be tried."""

from __future__ import annotations

from pathlib import Path

from esc_tf.config import AudioConfig, Esc50DataConfig, Experiment
from esc_tf.data.sharding import write_shards
from tests.data.test_folder import write_class_folders
from tests.data.test_urbansound8k import write_urbansound8k


def mock_data(experiment: Experiment, esc50: Path, folder: Path) -> list[str]:
    """Write what ``experiment`` reads; return the overrides that make it read that.

    Args:
        experiment: as it is shipped.
        esc50: a folder in ESC-50's layout with all its classes.
        folder: an empty folder.
    """
    name = experiment.data.name
    cache = f"data.cache_dir={folder / 'cache'}"
    if name == "esc50":
        return [f"data.root={esc50}", cache]
    if name == "synthetic":
        return ["data.clips_per_class_and_fold=1", cache]
    root = folder / "set"
    if name == "urbansound8k":
        write_urbansound8k(root)
    elif name == "folder":
        write_class_folders(root)
    else:
        config = Esc50DataConfig(name="esc50", root=str(esc50))
        audio = AudioConfig(sample_rate_hz=experiment.audio.sample_rate_hz)
        write_shards(config, audio, 0, root, progress=False)
        return [f"data.root={root}"]
    return [f"data.root={root}", cache]
