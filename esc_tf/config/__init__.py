"""The typed configuration of an experiment: load, override, explain. Imports no TensorFlow."""

from esc_tf.config.augment import AugmentConfig
from esc_tf.config.data import (
    AnyDataConfig,
    AudioConfig,
    DataConfig,
    Esc50DataConfig,
    FilesConfig,
    FolderDataConfig,
    ShardsDataConfig,
    SyntheticDataConfig,
    UrbanSound8KDataConfig,
)
from esc_tf.config.experiment import Experiment
from esc_tf.config.export import ExportConfig
from esc_tf.config.front_end import FrontEndConfig, LogMelConfig
from esc_tf.config.loading import (
    build_experiment,
    dump_experiment,
    flatten_experiment,
    load_experiment,
    read_run_facts,
)
from esc_tf.config.model import (
    AnyModelConfig,
    CNN10Config,
    HeadConfig,
    MobileNetStudentConfig,
    MobileNetV3Config,
    ModelConfig,
    SECNNConfig,
    TFNetConfig,
)
from esc_tf.config.recipe import DistributionConfig, RecipeConfig

__all__ = [
    "AnyDataConfig",
    "AnyModelConfig",
    "AudioConfig",
    "AugmentConfig",
    "CNN10Config",
    "DataConfig",
    "DistributionConfig",
    "Esc50DataConfig",
    "Experiment",
    "ExportConfig",
    "FilesConfig",
    "FolderDataConfig",
    "FrontEndConfig",
    "HeadConfig",
    "LogMelConfig",
    "MobileNetStudentConfig",
    "MobileNetV3Config",
    "ModelConfig",
    "RecipeConfig",
    "SECNNConfig",
    "ShardsDataConfig",
    "SyntheticDataConfig",
    "TFNetConfig",
    "UrbanSound8KDataConfig",
    "build_experiment",
    "dump_experiment",
    "flatten_experiment",
    "load_experiment",
    "read_run_facts",
]
