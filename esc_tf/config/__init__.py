"""The typed configuration of an experiment: load, override, explain. Imports no TensorFlow."""

from esc_tf.config.audio import AudioConfig, SegmentsConfig
from esc_tf.config.augment import AugmentConfig
from esc_tf.config.data import (
    AnyDataConfig,
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
from esc_tf.config.front_end import (
    AnyFrontEndConfig,
    FrontEndConfig,
    HeuriNetConfig,
    LogMelConfig,
    MelConfig,
    MelInitConfig,
    MSTNetConfig,
)
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
    PiczakNetConfig,
    SECNNConfig,
    TFNetConfig,
)
from esc_tf.config.recipe import DistributionConfig, RecipeConfig

__all__ = [
    "AnyDataConfig",
    "AnyFrontEndConfig",
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
    "HeuriNetConfig",
    "LogMelConfig",
    "MSTNetConfig",
    "MelConfig",
    "MelInitConfig",
    "MobileNetStudentConfig",
    "MobileNetV3Config",
    "ModelConfig",
    "PiczakNetConfig",
    "RecipeConfig",
    "SECNNConfig",
    "SegmentsConfig",
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
