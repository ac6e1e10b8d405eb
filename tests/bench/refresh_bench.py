"""Refreshes against the bare loop, in turn, with the memory of all their processes together."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from memory import MemoryWatch, Peak
from place import ENVIRONMENT, ROOT, Place, python, say
from report import Line, Report, read_report
from source_process import BareLoop

if TYPE_CHECKING:
    from source_process import Source

MILLION = 1_000_000
_CHANGED_SHARE = 100
_KINDS = {
    "first": ("refresh, first", "<= 1.5 x"),
    "changed": ("refresh, 1 % changed", "<= 1.5 x"),
    "unchanged": ("refresh, nothing changed", "<= 1.3 x"),
}


@dataclass(frozen=True, slots=True)
class Refresh:
    """One refresh: its own seconds, those of the whole command, its phases if it published, its memory."""

    seconds: float
    command_seconds: float
    phases: dict[str, float]
    peak: Peak


@dataclass(frozen=True, slots=True)
class Measured:
    """A refresh and the mean of the bare loops before and after it."""

    ours: Refresh
    bare: BareLoop


def scheduler_command(place: Place) -> list[str]:
    """Return the command of one refresh."""
    return python(ROOT / "scheduler.py", "--config", place.folder / "refresh.toml", "--once")


def configure(place: Place, source: Source) -> None:
    """Write the configuration of the refreshes."""
    place.write_config("refresh", source_port=source.port)


def settle(place: Place, source: Source) -> None:
    """Refresh once, so that the newest generation holds what the source has now."""
    configure(place, source)
    command = scheduler_command(place)
    subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def refresh(place: Place, *, state: str, changed: int) -> Refresh:
    """Refresh once; it must have done what the measurement is about."""
    with (place.folder / "refresh.log").open("ab") as log:
        began = time.perf_counter()
        process = subprocess.Popen(scheduler_command(place), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=log)
        with MemoryWatch(process.pid) as watch:
            code = process.wait()
        command_seconds = time.perf_counter() - began
    if code:
        raise SystemExit(f"the refresh ended with exit code {code}; see refresh.log")
    outcome = json.loads((place.data / "status.json").read_text(encoding="utf-8"))["last_success"]
    found = (outcome["state"], outcome["counts"]["changed"])
    if found != (state, changed):
        raise SystemExit(f"the refresh should have been {(state, changed)}, and was {found}")
    phases = place.manifest()["seconds"] if state == "published" else {}
    return Refresh(outcome["seconds"], command_seconds, phases, watch.peak)


def bench_refreshes(place: Place, source: Source, report: Report) -> None:
    """Measure all kinds of refreshes in rounds, with a bare loop before and after each of them."""
    configure(place, source)
    began = time.monotonic()
    bare = [source.bare_loop()]
    rounds: list[dict[str, Measured]] = []
    longest = 0.0

    def measure(state: str, changed: int) -> Measured:
        ours = refresh(place, state=state, changed=changed)
        bare.append(source.bare_loop())
        return Measured(ours, mean_of(*bare[-2:]))

    while len(rounds) < place.effort.refresh_rounds:
        begun = time.monotonic()
        if rounds and begun - began + longest > place.effort.refresh_budget_seconds:
            break
        say(f"refreshes, round {len(rounds) + 1}")
        shutil.rmtree(place.data, ignore_errors=True)
        found = {"first": measure("published", 0)}
        found["changed"] = measure("published", source.change(max(1, place.count // _CHANGED_SHARE)))
        found["unchanged"] = measure("unchanged", 0)
        rounds.append(found)
        longest = max(longest, time.monotonic() - begun)
    report.details["bare loops"] = [asdict(item) for item in bare]
    report.details["refreshes"] = [{kind: asdict(item.ours) for kind, item in each.items()} for each in rounds]
    _tell_times(rounds, report)
    _tell_memory(place, [{kind: item.ours for kind, item in each.items()} for each in rounds], report)
    size = sum(path.stat().st_size for path in place.generations()[-1].iterdir())
    report.add(Line("generation_mib", "size of a generation on disk", "MiB", size / (1 << 20)))


def mean_of(before: BareLoop, after: BareLoop) -> BareLoop:
    """Return what stands against the refresh between two bare loops."""
    return BareLoop(
        (before.seconds + after.seconds) / 2,
        (before.command_seconds + after.command_seconds) / 2,
    )


def _tell_times(rounds: list[dict[str, Measured]], report: Report) -> None:
    for kind, (what, target) in _KINDS.items():
        pairs = [(each[kind].ours.seconds, each[kind].bare.seconds) for each in rounds]
        report.add(_of_pairs(Line(f"refresh_{kind}", what, "s", None, target=target), pairs))
    what = "refresh, first: whole commands, interpreters started"
    pairs = [(each["first"].ours.command_seconds, each["first"].bare.command_seconds) for each in rounds]
    report.add(_of_pairs(Line("refresh_command", what, "s", None), pairs))
    for kind in ("first", "changed"):
        names = dict.fromkeys(name for each in rounds for name in each[kind].ours.phases)
        for name in names:
            seconds = [each[kind].ours.phases.get(name, 0.0) for each in rounds]
            report.add(Line(f"phase_{kind}_{name}", f"  {kind}: {name}", "s", statistics.median(seconds)))


def _of_pairs(line: Line, pairs: list[tuple[float, float]]) -> Line:
    """Return the line with the medians of both sides and of the ratios."""
    ours, against = (statistics.median(pair[at] for pair in pairs) for at in (0, 1))
    ratios = sorted(pair[0] / pair[1] for pair in pairs)
    note = f"rounds: {len(pairs)}; ratios from {ratios[0]:.2f} to {ratios[-1]:.2f}"
    return replace(line, ours=ours, against=against, ratio=statistics.median(ratios), note=note)


def _tell_memory(place: Place, rounds: list[dict[str, Refresh]], report: Report) -> None:
    for kind, (title, _) in _KINDS.items():
        peaks = [each[kind].peak for each in rounds]
        highest = max(peaks, key=lambda peak: peak.private)
        parts = "; ".join(map(str, highest.parts))
        what = f"{title}: private memory, all processes"
        line = Line(f"memory_{kind}", what, "MiB", highest.private, target="<= 400 MiB", note=f"of each: {parts}")
        report.add(beside_a_million(place, line, at_most=1.1))
        resident = max(peak.resident for peak in peaks)
        proportional = max(peak.proportional for peak in peaks)
        note = f"pages of files counted once: {proportional:.1f} MiB"
        report.add(Line(f"resident_{kind}", "  the same, with pages of files", "MiB", resident, note=note))


def beside_a_million(place: Place, line: Line, *, at_most: float) -> Line:
    """Compare with the run at one million, if this one is larger and that one is known."""
    path = place.folder.parent / f"bench-{MILLION}.json"
    if place.count <= MILLION or not path.exists():
        return line
    known = read_report(path).find(line.name)
    if known is None or not known.ours or line.ours is None:
        return line
    # What is asked of two million; more people may take what their index takes.
    target = f"<= {at_most} x" if place.count == 2 * MILLION else ""
    return Line(line.name, line.what, line.unit, line.ours, known.ours, line.ours / known.ours, target, line.note)
