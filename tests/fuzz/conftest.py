"""How much the tests of bad input try: settings by name, the same cases in every run."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

_REPRODUCIBLE = settings(
    deadline=None,
    derandomize=True,
    database=None,
    # Cases share a folder, whose files each case writes anew.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
FUZZ = settings(_REPRODUCIBLE, max_examples=1000)
"""Of the default suite: a decorator, `@FUZZ`, above or below `@given`."""
DEEP = settings(_REPRODUCIBLE, max_examples=10_000)
"""Of tests marked slow."""
# By name too: `pytest tests/fuzz --hypothesis-profile deep` is for those that set nothing themselves.
settings.register_profile("fuzz", FUZZ)
settings.register_profile("deep", DEEP)
