"""Why does additional pretraining sometimes fail to improve? The study, as software."""

import os

__version__ = "0.1.0"

# Read when torch loads its thread pool. Threads that wait by spinning, the default, make training
# several times slower as soon as anything else wants the same cores; threads that sleep at once
# make it a quarter slower where nothing does. So: spin for some microseconds, then sleep.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")
