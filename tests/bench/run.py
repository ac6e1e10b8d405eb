"""make bench: the ratios that tell whether the product is fast, side by side in one run.

    PEOPLE=100000 python tests/bench/run.py

Ratios only mean something within one run on one machine; absolute numbers are printed to understand them.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from base64 import b64encode
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(HERE.parent), str(HERE)]

import people  # noqa: E402
import trustme  # noqa: E402
from load import Connection  # noqa: E402

ROUNDS = 5
SECONDS = 1.0
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE.parent), str(HERE)])}


def main() -> int:
    """Run everything; print one table; write it as JSON."""
    count = int(os.environ.get("PEOPLE", "100000"))
    folder = Path(os.environ.get("BENCH_FOLDER", ROOT / ".bench"))
    folder.mkdir(exist_ok=True)
    print(f"{count:,} people of {len(people.COLUMNS)} columns; {platform.platform()}, {os.cpu_count()} processors")
    print(f"Python {platform.python_version()}; measured {time.strftime('%Y-%m-%d')}; folder {folder.name}", flush=True)
    results: dict[str, object] = {"people": count, "python": platform.python_version(), "processors": os.cpu_count()}
    results |= refresh_bench(folder, count)
    results |= http_bench(folder, count)
    (folder / "bench.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    show(results)
    return 0


def refresh_bench(folder: Path, count: int) -> dict[str, object]:
    """Time a refresh against the bare loop, in turn, and watch the memory of its processes."""
    print("preparing the rows …", flush=True)
    rows = folder / f"people-{count}.tds"
    people.prepare(rows, count)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    pem = folder / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
    command = [sys.executable, str(HERE / "source.py"), str(rows), str(pem)]
    source = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    try:
        port = int(source.stdout.readline())
        config = write_config(folder, port)
        shutil.rmtree(folder / "data", ignore_errors=True)
        bare, first, again, peaks = [], [], [], {}
        rounds = 3 if count <= 200_000 else 1
        for at in range(rounds):
            print(f"refresh: round {at + 1} of {rounds} …", flush=True)
            bare.append(bare_loop(config))
            shutil.rmtree(folder / "data", ignore_errors=True)
            first.append(refresh(config, folder, peaks))
            again.append(refresh(config, folder, peaks))
    finally:
        source.stdin.close()
        source.wait(10)
    return {
        "bare_loop_seconds": statistics.median(bare),
        "first_refresh_seconds": statistics.median(first),
        "next_refresh_seconds": statistics.median(again),
        "first_refresh_ratio": statistics.median(a / b for a, b in zip(first, bare, strict=True)),
        "next_refresh_ratio": statistics.median(a / b for a, b in zip(again, bare, strict=True)),
        "scheduler_peak_mib": peaks["scheduler"],
        "refresh_child_peak_mib": peaks["refresh child"],
    }


def write_config(folder: Path, port: int) -> Path:
    """Write the configuration of the benchmark."""
    import tomllib  # noqa: PLC0415

    def table(value: object) -> str:
        if isinstance(value, dict):
            return "{ " + ", ".join(f"{json.dumps(k)} = {table(v)}" for k, v in value.items()) + " }"
        if isinstance(value, list):
            return "[" + ", ".join(table(item) for item in value) + "]"
        return json.dumps(value, ensure_ascii=False)

    text = f"""data_dir = "data"
mapping = {table(people.MAPPING)}
[source]
driver = "sqlserver"
server = "localhost"
port = {port}
database = "HR"
username = "bench"
password = "bench"
users = {{ table = "dbo.People" }}
tls = {{ ca = "ca.pem" }}
[server]
port = {free_port()}
auth = [{{ type = "basic", username = "okta", password = "bench" }}]
[log]
level = "warning"
"""
    tomllib.loads(text)
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def free_port() -> int:
    """Return a port that nobody uses right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def bare_loop(config: Path) -> float:
    """Return the seconds of reading and discarding, connection included."""
    command = [sys.executable, str(HERE / "bare_loop.py"), str(config)]
    output = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout
    return float(output.split()[1])


def refresh(config: Path, folder: Path, peaks: dict[str, float]) -> float:
    """Run the scheduler once; return the seconds of the refresh; note the peak memory of both processes."""
    command = [sys.executable, str(ROOT / "scheduler.py"), "--config", str(config), "--once"]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    watch_memory(process, peaks)
    if process.returncode:
        raise SystemExit(f"the refresh ended with exit code {process.returncode}")
    status = json.loads((folder / "data" / "status.json").read_text(encoding="utf-8"))
    seconds: float = status["last_success"]["seconds"]
    return seconds


def watch_memory(process: subprocess.Popen[bytes], peaks: dict[str, float]) -> None:
    """Note VmHWM of the process and of its children until it ends (Linux only)."""
    done = threading.Event()
    threading.Thread(target=lambda: (process.wait(), done.set()), daemon=True).start()
    while not done.wait(0.05):
        note_peak(peaks, "scheduler", process.pid)
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
        except OSError:
            continue
        for child in children:
            note_peak(peaks, "refresh child", int(child))


def note_peak(peaks: dict[str, float], name: str, pid: int) -> None:
    """Note the highest resident memory of a process, in MiB; `NAME private` without mapped files."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return
    for field, label in (("VmHWM", name), ("RssAnon", f"{name} private")):
        value = next((line.split()[1] for line in text.splitlines() if line.startswith(field)), None)
        if value:
            peaks[label] = round(max(peaks.get(label, 0.0), int(value) / 1024), 1)


def http_bench(folder: Path, count: int) -> dict[str, object]:
    """Measure the server's requests against a bare handler with the same bytes, in turn."""
    import tomllib  # noqa: PLC0415

    config = folder / "config.toml"
    port = tomllib.loads(config.read_text(encoding="utf-8"))["server"]["port"]
    bare_port = free_port()
    authorization = "Basic " + b64encode(b"okta:bench").decode()
    middle = count // 2
    targets = {
        "page_of_200": f"/scim/v2/Users?startIndex={max(1, middle // 200 * 200 + 1)}&count=200",
        "page_of_1000": "/scim/v2/Users?startIndex=1&count=1000",
        "user_by_id": f"/scim/v2/Users/{middle}",
        "user_name_eq": f"/scim/v2/Users?filter=userName%20eq%20%22USER{middle}%40example.com%22&startIndex=1&count=200",
    }
    bodies = folder / "bodies"
    shutil.rmtree(bodies, ignore_errors=True)
    bodies.mkdir()
    began = time.perf_counter()
    server = subprocess.Popen([sys.executable, "-m", "server", "--config", str(config)], env=ENVIRONMENT, cwd=ROOT)
    processes = [server]
    results: dict[str, object] = {}
    try:
        wait_for(port, "/-/ready")
        results["server_start_seconds"] = time.perf_counter() - began
        # The first page begins the import run that the page in the middle continues.
        Connection(port, "/scim/v2/Users?startIndex=1&count=200", authorization).close()
        for name, target in targets.items():
            connection = Connection(port, target, authorization)
            (bodies / name).write_bytes(connection.body)
            connection.close()
        bare_command = [sys.executable, str(HERE / "bare_http.py"), str(bodies), str(bare_port)]
        processes.append(subprocess.Popen(bare_command, env=ENVIRONMENT))
        wait_for(bare_port, "/page_of_200")
        for name, target in targets.items():
            print(f"http: {name} …", flush=True)
            ours, bare = Connection(port, target, authorization), Connection(bare_port, f"/{name}", authorization)
            pairs = [(ours.rate(SECONDS), bare.rate(SECONDS)) for _ in range(ROUNDS)]
            ours.close()
            bare.close()
            results[f"{name}_per_second"] = statistics.median(pair[0] for pair in pairs)
            results[f"{name}_bare_per_second"] = statistics.median(pair[1] for pair in pairs)
            results[f"{name}_ratio"] = statistics.median(pair[0] / pair[1] for pair in pairs)
        peaks: dict[str, float] = {}
        note_peak(peaks, "server", server.pid)
        results["server_peak_mib"] = peaks["server"]
        results["server_private_mib"] = peaks["server private"]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(15)
    return results


def wait_for(port: int, target: str) -> None:
    """Wait until a GET answers 200."""
    for _ in range(600):
        try:
            Connection(port, target, "none").close()
        except (OSError, SystemExit):
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"port {port} never answered {target} with 200")


def show(results: dict[str, object]) -> None:
    """Print the table."""
    rows = [
        ("page of 200", "page_of_200", 0.7),
        ("page of 1,000", "page_of_1000", None),
        ("user by id", "user_by_id", 0.6),
        ("userName eq", "user_name_eq", 0.6),
    ]
    print(f"\n{'what':<22}{'ours':>12}{'bare':>12}{'ratio':>8}  target")
    for title, name, target in rows:
        ratio = results[f"{name}_ratio"]
        verdict = "" if target is None else f">= {target}  {'met' if ratio >= target else 'MISSED'}"
        ours, bare = results[f"{name}_per_second"], results[f"{name}_bare_per_second"]
        print(f"{title:<22}{ours:>10,.0f}/s{bare:>10,.0f}/s{ratio:>8.2f}  {verdict}")
    bare = results["bare_loop_seconds"]
    for title, name in (("first refresh", "first_refresh"), ("refresh, no change", "next_refresh")):
        ratio = results[f"{name}_ratio"]
        seconds = results[f"{name}_seconds"]
        print(
            f"{title:<22}{seconds:>10.2f} s{bare:>10.2f} s{ratio:>8.2f}  <= 2.5  {'met' if ratio <= 2.5 else 'MISSED'}"
        )
    print(
        f"peak memory (MiB): scheduler {results['scheduler_peak_mib']}, refresh child {results['refresh_child_peak_mib']}, "
        f"server {results['server_peak_mib']} (private {results['server_private_mib']})"
    )
    print(f"server start to ready: {results['server_start_seconds']:.2f} s")


if __name__ == "__main__":
    sys.exit(main())
