"""The web page: an uploaded sound, decoded with limits, drawn, and heard by a served model."""
