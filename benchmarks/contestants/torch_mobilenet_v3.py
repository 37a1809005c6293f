"""MobileNetV3 (EfficientAT) in PyTorch, from waveforms on, with the tensor names of the original.

Written from the published description; ``tests/test_mobilenet_benchmark.py`` compares it with the
numbers of the original.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.contestants.settings import Round, timed
from esc_tf.audio.filterbanks import mel_filterbank
from esc_tf.config import LogMelConfig
from esc_tf.config.published import VARIANTS

# Kernel, expanded channels, output channels, squeeze-and-excitation, hard-swish, stride.
BLOCKS = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)


def round_channels(channels: float) -> int:
    """The nearest multiple of 8, one more where that would lose over a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def conv_norm(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, activation: Any = None
) -> nn.Sequential:
    """Convolution, batch norm and, if there is one, an activation."""
    parts = [
        nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
    ]
    return nn.Sequential(*parts, *([] if activation is None else [activation(inplace=True)]))


class Gate(nn.Module):
    """Two dense layers from the channels' means to a factor for each."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = round_channels(channels // 4)
        self.fc1, self.fc2 = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def forward(self, x: Any) -> Any:
        gate = torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3))))))
        return x * gate[:, :, None, None]


class SqueezeExcite(nn.Module):
    """The gate under the name that it has in the original, which can hold several."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conc_se_layers = nn.ModuleList([Gate(channels)])

    def forward(self, x: Any) -> Any:
        return self.conc_se_layers[0](x)


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, gate, projection; the input is added where it fits."""

    def __init__(
        self, inputs: int, kernel: int, expanded: int, outputs: int, gated: bool, hard: bool,
        stride: int,
    ) -> None:  # fmt: skip
        super().__init__()
        activation = nn.Hardswish if hard else nn.ReLU
        parts: list[nn.Module] = []
        if expanded != inputs:
            parts.append(conv_norm(inputs, expanded, 1, activation=activation))
        parts.append(conv_norm(expanded, expanded, kernel, stride, expanded, activation))
        if gated:
            parts.append(SqueezeExcite(expanded))
        parts.append(conv_norm(expanded, outputs, 1))
        self.block = nn.Sequential(*parts)
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: Any) -> Any:
        return self.block(x) + x if self.is_residual else self.block(x)


class TorchMobileNetV3(nn.Module):
    """Features ``(batch, 1, mel, time)`` → logits; the head is the published ``mlp``."""

    def __init__(self, width: float, num_classes: int) -> None:
        super().__init__()
        channels = round_channels(16 * width)
        parts: list[nn.Module] = [conv_norm(1, channels, 3, 2, activation=nn.Hardswish)]
        for kernel, expanded, outputs, gated, hard, stride in BLOCKS:
            expanded, outputs = round_channels(expanded * width), round_channels(outputs * width)
            parts.append(InvertedResidual(channels, kernel, expanded, outputs, gated, hard, stride))
            channels = outputs
        parts.append(conv_norm(channels, 6 * channels, 1, activation=nn.Hardswish))
        self.features = nn.Sequential(*parts)
        hidden = round_channels(1280 * width)
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6 * channels, hidden),
            nn.Hardswish(inplace=True),
            nn.Dropout(0.2, inplace=True),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, features: Any) -> Any:
        return self.classifier(self.features(features))


class TorchLogMel(nn.Module):
    """Waveform ``(batch, samples)`` → log-mel ``(batch, 1, mel, time)`` as in the original."""

    window: Any
    bank: Any

    def __init__(self, settings: Any, rate_hz: int) -> None:
        super().__init__()
        self.settings = settings
        window = torch.hann_window(settings.win_length, periodic=False)
        self.register_buffer("window", window, persistent=False)
        bank = mel_filterbank(
            rate_hz, settings.n_fft, settings.n_mels, settings.fmin_hz, settings.fmax_hz,
            settings.mel_scale, settings.mel_norm,
        )  # fmt: skip
        bank = torch.from_numpy(np.ascontiguousarray(bank.T, np.float32))
        self.register_buffer("bank", bank, persistent=False)

    def forward(self, waveform: Any) -> Any:
        settings = self.settings
        waveform = waveform[:, 1:] - settings.pre_emphasis * waveform[:, :-1]
        spectrum = torch.stft(
            waveform, settings.n_fft, settings.hop_length, settings.win_length, self.window,
            center=True, pad_mode="reflect", normalized=False, return_complex=True,
        )  # fmt: skip
        power = torch.view_as_real(spectrum).pow(2).sum(-1)
        mel = torch.log(torch.matmul(self.bank, power) + settings.floor)
        return ((mel + settings.affine_offset) / settings.affine_scale)[:, None]


def set_up(settings: dict[str, Any]) -> Round:
    """A function that does one training step, or some inferences, and returns seconds of one.

    Task ``parity`` writes weights, waveforms, labels and logits for the other side instead.
    """
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(0)
    variant = VARIANTS["mobilenet_v3"][settings["variant"]]
    front_end = TorchLogMel(LogMelConfig(**variant.front_end), variant.audio["sample_rate_hz"])
    network = TorchMobileNetV3(variant.model["width"], settings["num_classes"])
    network = network.to(memory_format=torch.channels_last)
    if settings["task"] == "parity":
        write_inputs(settings, front_end, network)
        return lambda: 0.0
    inputs = np.load(settings["inputs"])
    network.load_state_dict({key: torch.from_numpy(inputs[key]) for key in network.state_dict()})
    waveform = inputs["waveform"][: settings["batch_size"], : settings["num_samples"]]
    waveform = torch.from_numpy(waveform.copy())
    labels = torch.from_numpy(inputs["labels"])[: len(waveform)]
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, (0.9, 0.999), 1e-7)

    def train() -> float:
        optimizer.zero_grad(set_to_none=True)
        features = front_end(waveform).contiguous(memory_format=torch.channels_last)
        loss = nn.functional.cross_entropy(network(features), labels)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    def infer() -> Any:
        with torch.inference_mode():
            features = front_end(waveform).contiguous(memory_format=torch.channels_last)
            return torch.sigmoid(network(features)).numpy()

    network.train(settings["task"] == "train")
    return timed(train) if settings["task"] == "train" else timed(infer, settings["calls"])


def write_inputs(settings: dict[str, Any], front_end: TorchLogMel, network: Any) -> None:
    """Write weights with lived-in batch statistics, clips, and the logits that they give."""
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values in (module.weight, module.running_var):
                    values.copy_(torch.from_numpy(rng.uniform(0.5, 1.5, len(values))))
                for values in (module.bias, module.running_mean):
                    values.copy_(torch.from_numpy(rng.normal(0.0, 0.1, len(values))))
    size = (settings["batch_size"], settings["num_samples"])
    waveform = rng.normal(0.0, 0.1, size).astype(np.float32)
    with torch.inference_mode():
        logits = network.eval()(front_end(torch.from_numpy(waveform))).numpy()
    np.savez(
        settings["inputs"],
        waveform=waveform,
        labels=np.eye(settings["num_classes"], dtype=np.float32)[np.arange(len(waveform))],
        logits=logits,
        **{key: value.numpy() for key, value in network.state_dict().items()},
    )
