"""``python -m esc_tf.describe``: what an experiment's network is made of and what it costs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from esc_tf.command import add_config_arguments, load_config, quiet_import, run_command
from esc_tf.errors import EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m esc_tf.describe",
        description="Parameters per part, multiply-adds, memory, receptive field and shapes of an "
        "experiment's network. Needs neither its data nor a trained model.",
    )
    add_config_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return run_command(describe, parser, argv)


def describe(arguments: argparse.Namespace) -> int:
    """Print the description that the arguments ask for."""
    experiment = load_config(arguments)

    with quiet_import():  # only now, after the configuration has been found to be sound
        from esc_tf.evaluation.complexity import measure_complexity

    complexity = measure_complexity(experiment)
    print(json.dumps(complexity) if arguments.json else format_complexity(complexity))
    return EXIT_DONE


def format_complexity(complexity: dict[str, Any]) -> str:
    """The description as text.

    Args:
        complexity: of ``esc_tf.evaluation.complexity.measure_complexity``.
    """
    field = complexity["receptive_field"]
    width = max(12, *(len(part["name"]) + 2 for part in complexity["parts"]))
    lines = [
        f"{complexity['experiment']}: model {complexity['model']}",
        "",
        f"{'part':<{width}}{'parameters':>12}{'multiply-adds':>17}{'activations':>14}"
        f"  {'output (time, frequency, channel)':<34}sees (time, frequency)",
    ]
    for part in complexity["parts"]:
        lines.append(
            f"{part['name']:<{width}}{part['trainable_parameters']:>12,}{part['multiply_adds']:>17,}"
            f"{_megabytes(part['activation_bytes']):>14}  {_shape(part['output_shape']):<34}"
            + ("everything" if part["receptive_field"] is None else _shape(part["receptive_field"]))
        )
    lines += [
        f"{'total':<{width}}{complexity['trainable_parameters']:>12,}"
        f"{complexity['multiply_adds']:>17,}{_megabytes(complexity['activation_bytes']):>14}",
        "",
        f"input               {complexity['input_shape'][0]:,} samples",
        f"features            {_shape(complexity['feature_shape'])} (time, frequency, channel)",
        f"output              {complexity['output_shape'][0]} classes",
        f"parameters          {complexity['trainable_parameters']:,} trainable "
        f"({_megabytes(complexity['parameter_bytes'])} in float32), "
        f"{complexity['non_trainable_parameters']:,} not trainable",
        f"multiply-adds       {complexity['multiply_adds'] / 1e9:.3f} G a clip, "
        "convolutions and dense layers",
        f"activations         {_megabytes(complexity['activation_bytes'])} forward, "
        f"{_megabytes(complexity['forward_backward_bytes'])} forward and backward, a clip in "
        "float32",
        f"receptive field     {field['time']} frames x {field['frequency']} bins, in steps of "
        f"{field['time_stride']} x {field['frequency_stride']}",
    ]
    return "\n".join(lines)


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.2f} MB"


def _shape(sizes: Sequence[int]) -> str:
    return " x ".join(str(size) for size in sizes)


if __name__ == "__main__":
    sys.exit(main())
