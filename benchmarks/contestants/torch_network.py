"""The SE-CNN in PyTorch: channels last, in-place ReLU, Adam, autocast for bfloat16."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.contestants.settings import Round, load_settings, timed


class SqueezeExcite(nn.Module):
    """Channel attention from mean and maximum."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        hidden = channels // ratio
        self.gate = nn.Sequential(
            nn.Linear(2 * channels, hidden, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Any) -> Any:
        squeezed = torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)
        return x * self.gate(squeezed)[:, :, None, None]


def build_torch_network(config: Any, num_classes: int) -> Any:
    """The SE-CNN of ``config`` as a torch module: (batch, 1, time, frequency) → logits."""
    parts: list[nn.Module] = []
    channels = 1
    for index, filters in enumerate(config.block_filters, start=1):
        for _ in range(config.convs_per_block):
            parts.append(nn.Conv2d(channels, filters, 3, padding=1, bias=False))
            parts += [nn.BatchNorm2d(filters), nn.ReLU(inplace=True)]
            channels = filters
        parts.append(nn.MaxPool2d(2))
        if index in config.squeeze_excitation_blocks:
            parts.append(SqueezeExcite(channels, config.squeeze_excitation_ratio))
    (hidden_units,) = config.head.hidden_units
    parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, hidden_units)]
    parts += [nn.ReLU(inplace=True), nn.Dropout(config.head.dropout)]
    parts.append(nn.Linear(hidden_units, num_classes))
    return nn.Sequential(*parts).to(memory_format=torch.channels_last)


def load_torch_weights(network: Any, inputs: Any) -> None:
    """Copy the Keras model's weights, ``weight_0`` … in its order, into the torch module.

    Raises:
        SystemExit: the two have different numbers of weights.
    """
    index = 0
    for module in network.modules():
        targets: list[Any] = []
        if isinstance(module, nn.BatchNorm2d):
            targets = [module.weight, module.bias, module.running_mean, module.running_var]
        elif isinstance(module, nn.Conv2d | nn.Linear):
            targets = [module.weight] + ([] if module.bias is None else [module.bias])
        for target in targets:
            value = inputs[f"weight_{index}"]
            index += 1
            with torch.no_grad():
                target.copy_(
                    torch.from_numpy(value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T)
                )
    if f"weight_{index}" in inputs:
        raise SystemExit("the two networks have different numbers of weights")


def set_up(settings: dict[str, Any]) -> Round:
    """A function that does one training step, or one inference, and returns its seconds."""
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(0)
    experiment, inputs = load_settings(settings), np.load(settings["inputs"])
    network = build_torch_network(experiment.model, inputs["labels"].shape[1])
    load_torch_weights(network, inputs)
    features = torch.tensor(inputs["features"].transpose(0, 3, 1, 2))
    features = features.contiguous(memory_format=torch.channels_last)
    labels = torch.tensor(inputs["labels"])
    if settings["task"] == "parity":
        with torch.inference_mode():
            logits = network.eval()(features).numpy()
        error = np.abs(logits - inputs["logits"]).max() / np.abs(inputs["logits"]).max()
        return lambda: float(error)
    adam = experiment.recipe.optimizer
    optimizer = torch.optim.Adam(
        network.parameters(), adam.learning_rate, (adam.beta_1, adam.beta_2), adam.epsilon
    )
    loss_function = torch.nn.CrossEntropyLoss()
    autocast = torch.autocast(
        "cpu", torch.bfloat16, enabled=settings["precision"] != "float32", cache_enabled=True
    )

    def train() -> float:
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            logits = network(features)
        loss = loss_function(logits.float(), labels)
        loss.backward()
        optimizer.step()
        return float(loss)

    def infer() -> float:
        with torch.inference_mode(), autocast:
            return float(network(features)[0, 0])

    network.train(settings["task"] == "train")
    return timed(train if settings["task"] == "train" else infer)
