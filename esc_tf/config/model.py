"""Models: the options of each architecture. No TensorFlow here, so that errors come at once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from esc_tf.config.section import Section

Width = Annotated[int, Field(ge=1, le=65536)]
Filters = Annotated[list[Width], Field(min_length=1, max_length=8)]
Penalty = Annotated[float, Field(ge=0.0)]
DropoutRate = Annotated[float, Field(ge=0.0, lt=1.0)]
Stride = Literal[1, 2]

# The published widths of MobileNetV3 by the names of their checkpoints; 1.0 is the paper's.
MOBILENET_V3_WIDTHS = {
    "mn01": 0.1,
    "mn02": 0.2,
    "mn04": 0.4,
    "mn05": 0.5,
    "mn10": 1.0,
    "mn20": 2.0,
    "mn30": 3.0,
    "mn40": 4.0,
}
# Units of the dense layer in MobileNetV3's own head at width 1.0.
MOBILENET_V3_HEAD_UNITS = 1280


class HeadConfig(Section):
    """What makes logits of a backbone's outputs.

    - ``mlp``: dense layers with an activation from the embedding to the logits; dropout follows
      the first of them, or acts on the embedding where there is none.
    - ``fully_convolutional``: a 1 x 1 convolution of the last feature map to one channel a class,
      batch norm, the mean over all positions.
    - ``attention``: ``num_heads`` heads of attention over time, one map for each class.

    ``hidden_units``, ``activation``, ``dropout`` and ``kernel_l2`` belong to ``mlp``, ``num_heads``
    to ``attention``. ``kernel_l2`` times the sum of the squared weights of each dense kernel is
    added to the loss.
    """

    kind: Literal["mlp", "fully_convolutional", "attention"] = "mlp"
    hidden_units: list[Width] = []
    activation: Literal["relu", "hard_swish"] = "relu"
    dropout: DropoutRate = 0.0
    num_heads: Annotated[int, Field(ge=1, le=64)] = 4
    kernel_l2: Penalty = 0.0


class SECNNConfig(Section):
    """SE-CNN [Dwivedi 2024] and the two smaller variants printed beside it.

    ``squeeze_excitation_blocks`` counts blocks from 1. ``pool_grid`` [time, frequency]: the mean
    over a grid of that size, flattened; null: the mean over everything.
    """

    name: Literal["se_cnn"]
    block_filters: Filters = [64, 128, 256, 512, 1024]
    convs_per_block: Annotated[int, Field(ge=1, le=4)] = 2
    squeeze_excitation_blocks: list[Annotated[int, Field(ge=1)]] = [2, 3, 4, 5]
    squeeze_excitation_ratio: Annotated[int, Field(ge=1)] = 8
    pool_grid: tuple[Width, Width] | None = None
    head: HeadConfig = HeadConfig(hidden_units=[2048], dropout=0.5)


class MobileNetV3Config(Section):
    """MobileNetV3-Large as EfficientAT has it [Schmid 2023].

    ``width`` multiplies all channels, each rounded by ``round_channels``; ``strides`` are those of
    blocks 2, 4, 7 and 13 (C1 to C4); ``reduced_tail`` halves the last three blocks and the
    published head. The published head has ``round_channels(1280 * width)`` hidden units: set
    ``head.hidden_units`` beside ``width``. ``num_blocks`` below 15 leaves out the last blocks, in
    which most of the parameters lie; ``final_expansion`` times the last block's channels are the
    embedding's units.
    """

    name: Literal["mobilenet_v3"]
    width: Annotated[float, Field(ge=0.1, le=10.0)] = 1.0
    num_blocks: Annotated[int, Field(ge=1, le=15)] = 15
    final_expansion: Annotated[int, Field(ge=1, le=16)] = 6
    strides: tuple[Stride, Stride, Stride, Stride] = (2, 2, 2, 2)
    reduced_tail: bool = False
    head: HeadConfig = HeadConfig(
        hidden_units=[MOBILENET_V3_HEAD_UNITS], activation="hard_swish", dropout=0.2
    )


class CNN10Config(Section):
    """CNN10 of PANNs [Kong 2020], and the plain baseline published beside TFNet.

    ``input_norm``: a batch norm over the mel bands; ``time_pooling``: what is made of the frames
    behind the mean over frequency; ``embedding_units``: a dense ReLU layer with
    ``embedding_dropout`` before it, null for none; ``block_dropout`` follows each block.
    """

    name: Literal["cnn10"]
    block_filters: Filters = [64, 128, 256, 512]
    input_norm: bool = True
    time_pooling: Literal["max_plus_mean", "max"] = "max_plus_mean"
    embedding_units: Width | None = 512
    block_dropout: DropoutRate = 0.2
    embedding_dropout: DropoutRate = 0.5
    head: HeadConfig = HeadConfig(dropout=0.5)


class TFNetConfig(Section):
    """TFNet [Wang 2020]: CNN10's blocks, each with attention over frequency and over time."""

    name: Literal["tfnet"]
    block_filters: Filters = [64, 128, 256, 512]
    head: HeadConfig = HeadConfig()


class MobileNetStudentConfig(Section):
    """A small MobileNet for chips that calculate with eight bits, taught by a larger network.

    A stem of stride 2, then stages: ``depths[i]`` inverted residuals of ``block_filters[i]``
    channels, the first of them with stride ``strides[i]``, kernel ``kernels[i]`` throughout;
    ``expansion`` times the channels are filtered in between. The first ``plain_stages`` stages have
    ordinary convolutions, which at few channels are faster than depthwise ones. ``embedding_units``
    are made of the last stage before the mean over all positions. ``width`` multiplies all of
    these channels, rounded by ``round_channels``.

    ``squeeze_excitation`` gates the channels of all depthwise blocks but the first stage's. ReLU
    and ReLU6 lose least in int8.
    """

    name: Literal["mobilenet_student"]
    width: Annotated[float, Field(ge=0.1, le=10.0)] = 1.0
    stem_filters: Width = 16
    block_filters: Filters = [24, 40, 64, 96]
    depths: Annotated[list[Annotated[int, Field(ge=1, le=16)]], Field(min_length=1)] = [1, 2, 2, 1]
    strides: Annotated[list[Stride], Field(min_length=1)] = [2, 2, 2, 1]
    kernels: Annotated[list[Literal[3, 5, 7]], Field(min_length=1)] = [3, 3, 3, 3]
    expansion: Annotated[int, Field(ge=1, le=8)] = 3
    plain_stages: Annotated[int, Field(ge=0)] = 2
    squeeze_excitation: bool = False
    activation: Literal["relu", "relu6", "hard_swish"] = "relu"
    embedding_units: Width = 256
    head: HeadConfig = HeadConfig(dropout=0.2)


class PiczakNetConfig(Section):
    """PiczakNet [Piczak 2015] as DeepFourier has it [Jüttner et al.]: two convolutions, two dense.

    ``deltas``: the features' differences over time as a second channel, as in the original.
    ``kernel_l2`` times the sum of the squared weights of each kernel is added to the loss; the
    kernel of the logits has its own in ``head``. ``dropout`` follows the first convolution's pool
    and the first dense layer, ``head.dropout`` the second.

    The default penalties are those of the published text. In the published code they are never
    added to the loss: set both to 0 to train as its numbers were made.
    """

    name: Literal["piczak_net"]
    deltas: bool = False
    filters: Width = 80
    dense_units: Width = 5000
    dropout: DropoutRate = 0.5
    kernel_l2: Penalty = 1e-3
    head: HeadConfig = HeadConfig(dropout=0.5, kernel_l2=1e-3)


AnyModelConfig = (
    SECNNConfig
    | MobileNetV3Config
    | MobileNetStudentConfig
    | CNN10Config
    | TFNetConfig
    | PiczakNetConfig
)
ModelConfig = Annotated[AnyModelConfig, Field(discriminator="name")]


def round_channels(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of ``divisor``, at least ``divisor``, and never below 90 % of it.

    >>> [round_channels(channels) for channels in (1.6, 6.4, 16 * 0.4, 1280 * 0.4, 11.9, 92)]
    [8, 8, 8, 512, 16, 96]
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
