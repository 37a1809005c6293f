"""Models to serve: which, from where, in which versions, and how they are run."""
