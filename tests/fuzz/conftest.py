"""How much the tests of bad input try: settings by name, the same cases in every run."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

CASES = int(os.environ.get("FUZZ_CASES", "100"))
"""Cases of each property: a hundred among the fast tests, a thousand by `make fuzz`."""
FUZZ = settings(
    max_examples=CASES,
    deadline=None,
    derandomize=True,
    database=None,
    # Cases share a folder, whose files each case writes anew.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
"""A decorator, `@FUZZ`, above or below `@given`."""
