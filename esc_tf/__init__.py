"""Environmental sound classification in TensorFlow, from raw audio to a phone."""

__version__ = "0.1.0"
