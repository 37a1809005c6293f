"""Serving of exported models over REST. Room kept by the layout; not built yet."""
