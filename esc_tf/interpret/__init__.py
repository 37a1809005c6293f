"""What a model's inside stands for: ``python -m esc_tf.interpret COMMAND``."""
