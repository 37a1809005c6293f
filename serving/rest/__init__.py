"""TensorFlow Serving's REST dialect: paths, JSON bodies and replies, to the letter.

Nothing here knows of HTTP servers or of TensorFlow: bytes and NumPy arrays go in and out, and what
cannot be answered is a `serving.errors.ServingError` in TensorFlow Serving's own words.

Source: TensorFlow Serving, `g3doc/api_rest.md`, `util/json_tensor.cc` and
`model_servers/http_rest_api_handler.cc`, which parse and write JSON with RapidJSON 1.1.0.
"""
