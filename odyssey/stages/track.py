"""Stage `track`: everything into MLflow, and a receipt of it."""

from __future__ import annotations

from odyssey.layout import Layout
from odyssey.settings import Settings
from odyssey.store import write_json
from odyssey.tracking.publication import publish


def run(settings: Settings, layout: Layout) -> None:
    """Publish the study and write published.json: experiment, store, and each run's digest.

    The receipt depends on the results and the store's address only, not on when or how often
    they were published.
    """
    outcome = publish(settings, layout)
    new, kept = outcome.pop("new"), outcome.pop("kept")
    write_json(layout.track / "published.json", outcome)
    print(
        f"track: experiment '{outcome['experiment']}' in {outcome['tracking_uri']}: "
        f"{new} runs published, {kept} kept; next: `make ui`"
    )
