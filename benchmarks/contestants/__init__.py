"""The contestants of ``benchmarks.training``, each run in a process of its own."""
