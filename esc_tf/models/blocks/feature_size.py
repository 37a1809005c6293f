"""Whether features are large enough for a network that halves them again and again."""

from __future__ import annotations


def find_size_problems(num_blocks: int, feature_shape: tuple[int | None, int, int]) -> list[str]:
    """One sentence for each axis of which ``num_blocks`` halvings, rounded down, leave nothing.

    Args:
        num_blocks: of ``model.block_filters``, each of which halves time and frequency.
        feature_shape: ``(time, frequency, channel)`` of one clip; time may be None.
    """
    smallest = 2**num_blocks
    time, frequency, _ = feature_shape
    problems = []
    if time is not None and time < smallest:
        problems.append(
            f"model.block_filters: {num_blocks} blocks need {smallest} frames, the clip has "
            f"{time}; lengthen audio.duration_s, shorten front_end.hop_length or drop blocks"
        )
    if frequency < smallest:
        problems.append(
            f"model.block_filters: {num_blocks} blocks need {smallest} frequency bins, the "
            f"features have {frequency}; raise front_end.n_mels or drop blocks"
        )
    return problems
