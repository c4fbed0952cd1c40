"""docs/benchmarks.md and its plot, from what the benchmarks recorded last.

python benchmarks/render.py
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness import OURS, PEERS, RESULTS, ROOT, Result

PAGE = ROOT / "docs" / "benchmarks.md"
PLOT = ROOT / "docs" / "benchmarks-growth.svg"
NOTES = Path(__file__).with_name("notes.md")
TITLES = {
    "scoring": "Scoring",
    "training": "Training",
    "frechet": "Fréchet distance",
    "moments": "Mean and covariance",
    "embedding": "Embedding",
    "tokens": "Token table",
    "sampling": "Sampling",
    "startup": "Start of a stage",
    "dvc_overhead": "DVC",
    "study": "The whole study",
}
"""Headings, by name of the script, in their order."""
INTRODUCTION = """\
# Benchmarks

What the package's loops take, beside what one would run instead: each section is a script in `benchmarks/`, and
`make bench` runs them all and writes this page. Ours and the peers run in turn in the same session, after a
look at whether they give the same numbers. A ratio is the median over rounds, with the least and the largest; above 1
ours is faster. Memory is the peak of the whole process, ours over the peer's; below 1 ours takes less. Whatever was
measured before stays in `benchmarks/results.json`.
"""


def main() -> None:
    """Write the page, and the plot if growth was measured."""
    latest = {entry["benchmark"]: entry for entry in json.loads(RESULTS.read_text(encoding="utf-8"))}
    shown = [latest[name] for name in (*TITLES, "growth") if name in latest]
    usual = max(map(_where, shown), key=list(map(_where, shown)).count)
    parts = [INTRODUCTION, f"Unless a section says otherwise: {usual}\n"]
    for name, title in TITLES.items():
        if name in latest:
            parts.append("\n".join([f"## {title}", "", *_elsewhere(latest[name], usual), *_section(latest[name])]))
    if growth := latest.get("growth"):
        draw(growth["growth"])
        parts.append("\n".join(["## Growth", "", *_elsewhere(growth, usual), *_growth(growth)]))
    parts.append(NOTES.read_text(encoding="utf-8"))
    PAGE.write_text("\n".join(parts), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {len(shown)} measures")


def _elsewhere(entry: dict[str, Any], usual: str) -> list[str]:
    """Where and with what a benchmark ran, if not as most did."""
    return [] if _where(entry) == usual else [_where(entry), ""]


def _section(entry: dict[str, Any]) -> Iterator[str]:
    yield "| measure | ours | beside | ratio | memory | reach |"
    yield "|---|--:|---|--:|--:|---|"
    results = [Result(**raw) for raw in entry["results"]]
    for result in results:
        ours = _seconds(statistics.median(result.seconds[OURS]))
        for place, peer in enumerate(result.peers):
            first = (result.measure, ours) if place == 0 else ("", "")
            memory = f"{result.memory(peer)[0]:.2f}" if result.peak_mb.get(peer) else ""
            reach = result.reach if place == 0 else ""
            yield f"| {first[0]} | {first[1]} | {peer} | {_ratio(result.speedup(peer))} | {memory} | {reach} |"
    yield ""
    yield from (f"- {text}" for text in dict.fromkeys(told for r in results for told in (r.agreement, r.note) if told))
    yield ""


def _growth(entry: dict[str, Any]) -> Iterator[str]:
    yield f"![Seconds against size, both logarithmic]({PLOT.name})"
    yield ""
    yield "| loop | sizes | exponent of time | peak memory, MB |"
    yield "|---|--:|--:|--:|"
    for loop, rows in entry["growth"].items():
        sizes = [row[0] for row in rows]
        memory = f"{rows[0][2]:.0f} to {rows[-1][2]:.0f}"
        yield f"| {loop} | {min(sizes):,} to {max(sizes):,} | {exponent(rows):.2f} | {memory} |"
    yield ""


def exponent(rows: Sequence[Sequence[float]]) -> float:
    """Slope of log seconds on log n, least squares, of rows (n, seconds, peak MB)."""
    slope, _ = statistics.linear_regression([math.log(row[0]) for row in rows], [math.log(row[1]) for row in rows])
    return slope


def draw(growth: dict[str, list[list[float]]]) -> None:
    """Seconds against n of each loop, both axes logarithmic."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    with mpl.rc_context({"svg.hashsalt": "odyssey", "font.size": 9}):
        figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
        styles = zip(["o", "s", "^", "v", "D", "P", "X", "*", "<", ">"], plt.get_cmap("tab10").colors, strict=True)
        for (loop, rows), (marker, color) in zip(growth.items(), styles, strict=False):
            label = f"{loop}: exponent {exponent(rows):.2f}"
            axes.loglog([r[0] for r in rows], [r[1] for r in rows], marker=marker, color=color, label=label)
        axes.set_xlabel("n (what it counts: see the name)")
        axes.set_ylabel("seconds")
        axes.grid(alpha=0.3)
        figure.legend(loc="outside right upper", frameon=False)
        figure.savefig(PLOT, metadata={"Date": None})
        plt.close(figure)


def _where(entry: dict[str, Any]) -> str:
    machine = entry["hardware"]
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    cores = "1 core" if machine["cores"] == 1 else f"{machine['cores']} cores"
    packages = ", ".join(f"{name} {found}" for name, found in entry["versions"].items() if name not in PEERS)
    return f"{machine['processor']}, {cores}, {machine['memory_gb']} GB{gpu}; {entry['date'][:10]}; {packages}."


def _ratio(spread: tuple[float, float, float]) -> str:
    median, low, high = spread
    return f"{median:.2f} [{low:.2f}, {high:.2f}]"


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{value * 1000:.3g} ms"


if __name__ == "__main__":
    main()
