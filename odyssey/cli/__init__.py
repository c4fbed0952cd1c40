"""The command line: one command per pipeline stage, and tools for anyone's files.

Thin on purpose: options in, one library call, output. What is heavy is imported where
it is used, so that --help is instant.
"""

from odyssey.cli import installation, mlflow, stages, studies, sweep, tools  # each adds its commands to `main`
from odyssey.cli.common import main

__all__ = ["installation", "main", "mlflow", "stages", "studies", "sweep", "tools"]
