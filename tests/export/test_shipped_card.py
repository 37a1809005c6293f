"""The card of the package's own model: credits found, folds counted, text complete."""

from __future__ import annotations

import numpy as np
import pytest

from esc_tf.errors import RequestError
from export.shipped_card import format_card, format_credits, measure_folds, read_credits

LIST = """Licensing details for individual clips:

**001 - Dog bark**:
- **[1-100032-A.ogg](https://x.org/raw/001%20-%20Dog%20bark/1-100032-A.ogg)**:       clip derived \
from [rose_bark.wav](http://www.freesound.org/people/nfrae/sounds/100032/) by *nfrae* \
([CC0](http://creativecommons.org/publicdomain/zero/1.0/))
- **[2-122104-B.ogg](https://x.org/raw/2-122104-B.ogg)**:       clip derived from \
[Dog barking (nice [reflection]).wav](http://www.freesound.org/people/rickyjezz/sounds/122104/) by \
*ricky jezz* ([CC-BY](http://creativecommons.org/licenses/by/3.0/))
"""
NAMES = ("dog", "rain", "siren")


def test_credits_of_the_clips_that_trained() -> None:
    (one,) = read_credits(LIST, ["1-100032-A-0"], "list")
    assert (one.clip, one.title, one.author) == ("1-100032-A", "rose_bark.wav", "nfrae")
    assert (one.licence, one.url[-8:]) == ("CC0", "/100032/")
    both = read_credits(LIST, ["2-122104-B", "1-100032-A"], "list")
    assert [item.clip for item in both] == ["1-100032-A", "2-122104-B"]
    text = format_credits(both, "ESC-10")
    assert "these 2 clips of ESC-10" in text
    assert text.endswith(
        "- 2-122104-B: [Dog barking (nice [reflection]).wav]"
        "(http://www.freesound.org/people/rickyjezz/sounds/122104/) by ricky jezz, CC-BY\n"
    )


def test_a_clip_without_credit_is_named() -> None:
    with pytest.raises(RequestError, match=r"nothing of 1 of 2 clips \(3-1-A\)"):
        read_credits(LIST, ["1-100032-A-0", "3-1-A-0"], "list")


def test_folds_are_counted() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2, 0, 0])
    chosen = np.array([0, 1, 1, 1, 2, 1, 1, 0])
    folds = np.array([1, 1, 1, 1, 2, 2, 2, 2])
    found = measure_folds(np.eye(3)[chosen], labels, folds, NAMES)
    assert found["folds"] == [
        {"fold": 1, "clips": 4, "accuracy": 0.75},
        {"fold": 2, "clips": 4, "accuracy": 0.5},
    ]
    assert (found["mean"], found["standard_deviation"]) == (0.625, 0.125)
    assert found["classes"] == {"dog": 0.5, "rain": 1.0, "siren": 0.5}
    assert found["confusions"] == [
        {"true": "dog", "named": "rain", "clips": 2},
        {"true": "siren", "named": "rain", "clips": 1},
    ]


def test_a_card_says_what_is_measured() -> None:
    outside = {
        "window_s": 5.0,
        "hop_s": 5.0,
        "kinds": {"noise": {"false_alarms_per_hour": 7.2}},
    }
    labels = np.array([0, 1, 2])
    card = {
        "name": "ours",
        "description": "Names three sounds.",
        "parameters": 1234567,
        "labels": list(NAMES),
        "input": {"duration_s": 5.0, "sample_rate_hz": 16000, "shorter_clips": "silence"},
        "use": ["For people."],
        "licences": ["- Code: free.", "- Data: free."],
        "training": {
            "experiment": "exp",
            "seed": 0,
            "epochs": 7,
            "epochs_of_folds": 6,
            "clips": 320,
            "commit": "0123456789abcdef",
        },
        "retrain": "`make shipped` does it again.",
        "cross_validation": measure_folds(np.eye(3), labels, np.array([1, 1, 2]), NAMES),
        "open_set": {
            "trained_on_outliers": True,
            "calibration": {
                "threshold": 0.62,
                "accepted_share": 0.95,
                "clips": 320,
                "accepted": 0.953125,
                "accuracy_of_accepted": 0.98,
            },
            "outside": outside,
            "shipped": {"int8 file": outside},
        },
        "limits": ["one", "two"],
    }
    text = format_card(card)
    for words in (
        "# ours\n\nNames three sounds.\n\n1,234,567 parameters",
        "5 s of mono audio at 16000 Hz",
        "- Code: free.\n- Data: free.\n",
        "7 epochs on 320 clips, commit `0123456`. `make shipped` does it again.",
        "| 1 | 2 | 100.00% |",
        "| mean |  | 100.00% (± 0.00%) |",
        "none in these folds",
        "no class reaches 0.6200 is called `other`",
        "95.31% are, 98.00% of these rightly",
        "| sounds | cross-validation | int8 file |",
        "| noise | 7.2 | 7.2 |",
        "Other sounds of such kinds were trained on (`augment.outlier`); speech, music",
        "- one\n- two\n",
    ):
        assert words in text
