"""Why does additional pretraining sometimes fail to improve? The study, as software."""

import os

__version__ = "0.1.0"

# Read when torch loads its thread pool. Threads that spin while they wait make training three
# times slower as soon as anything else wants the same cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
