"""What bench/run.sh runs; see there and bench/README.md."""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import growth
from bench import BIN, Bench, CountingSink, KeepingSink
from growth import SWEEPS
from latency import row, run_rate, run_relay, spread


# ---- what to run ----

def check(bench):
    topic = bench.new_topic()
    bench.publish("lib", topic, bench.args.n)
    bench.run_service(topic, bench.args.n, KeepingSink)
    growth.check(bench)
    subprocess.run([str(BIN / "bench_micro"), "100"], check=True, stdout=subprocess.DEVNULL)
    print("%d events: %s" % (bench.args.n, "; ".join(bench.problems) or "every mail once, marked and committed"))


def median(rows, key):
    return statistics.median(row[key] for row in rows)


def measure_producers(bench):
    """The producer library, from structs and from JSON, in turn with librdkafka itself."""
    ways = {"lib": [], "json": [], "raw": []}
    bench.publish("raw", bench.new_topic(), 100)  # a new broker's first producer waits for its coordinator
    for _ in range(max(5, bench.args.rounds)):
        for way, rows in ways.items():
            rows.append(bench.publish(way, bench.new_topic(), bench.args.n))
    for way, rows in ways.items():
        ratio = statistics.median(a["rate"] / b["rate"] for a, b in zip(rows, ways["raw"]))
        figures = [median(rows, key) for key in ("cpu_us", "p50_ms", "p99_ms")]
        print("publishing, %-4s %8.0f events/s (%.2f of raw), %4.1f us CPU, acknowledged: p50 %.1f ms, p99 %.1f ms" % (
            way, median(rows, "rate"), ratio, *figures))


def measure_latency(bench, rate):
    """As bench/run.sh --latency does, in fewer rounds."""
    bench.extra = {}
    runs = [run_rate(bench, rate, 5) for _ in range(bench.args.rounds)]
    print("milliseconds at 20 %% of that rate, %.0f events/s" % rate)
    row("in Kafka to the relay's 250", [spread(run["acknowledged"]) for run in runs])
    row("the relay alone", [spread(run_relay())])


def measure(bench):
    args, ours, source = bench.args, [], []
    for number in range(args.rounds):
        topic = bench.new_topic()
        bench.publish("lib", topic, args.n)
        for run in [lambda: ours.append(bench.run_service(topic, args.n, CountingSink)),
                    lambda: source.append(bench.run_source(args.n))][:: 1 if number % 2 else -1]:
            run()
    print("%-16s %10s %12s %14s %8s" % ("", "mails/s", "CPU us/mail", "machine us/mail", "RSS MB"))
    for name, rows in (("email-service", ours), ("smtp-source", source)):
        print("%-16s %10.0f %12.1f %14.0f %8.1f" % (name, *(median(rows, k) for k in
                                                           ("rate", "cpu_us", "machine_us", "rss_mb"))))
    print("of smtp-source's: rate %.2f, CPU %.2f, machine's CPU %.2f" % tuple(
        statistics.median(a[key] / b[key] for a, b in zip(ours, source)) for key in ("rate", "cpu_us", "machine_us")))
    measure_latency(bench, max(10, median(ours, "rate") * 0.2))
    measure_producers(bench)
    print("checks: %s" % ("; ".join(bench.problems) or "ok"))


def sweep_names(text):
    names = text.split(",")
    unknown = [name for name in names if name not in SWEEPS]
    if unknown:
        raise argparse.ArgumentTypeError("no such thing to grow: " + ", ".join(unknown))
    return names


def main():
    parser = argparse.ArgumentParser(prog="bench/run.sh")
    parser.add_argument("-n", type=int, help="events (20000; with --check 300)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--partitions", type=int, default=6)
    parser.add_argument("--micro", action="store_true", help="the pure parts alone")
    parser.add_argument("--check", action="store_true", help="correctness only")
    parser.add_argument("--growth", nargs="?", const=",".join(SWEEPS), metavar="WHAT,...", type=sweep_names,
                        help="cost a mail as something grows: " + ", ".join(SWEEPS))
    parser.add_argument("--huge", action="store_true", help="with --growth backlog: one of 50 x n as well")
    parser.add_argument("--out", type=Path, default=Path("build/growth"), help="growth.json and plots go there")
    parser.add_argument("--plot", action="store_true", help="draw the plots of --out anew")
    args = parser.parse_args()
    if args.micro:
        return subprocess.run([str(BIN / "bench_micro")]).returncode
    if args.plot:
        return growth.draw(args.out)
    args.n = args.n or (300 if args.check else 20000)
    folder = Path(tempfile.mkdtemp(prefix="email-service-bench-"))
    folder.chmod(0o755)  # smtp-sink drops its privileges
    bench = None
    try:
        bench = Bench(args, folder)
        (check if args.check else growth.measure if args.growth else measure)(bench)
        return 1 if bench.problems else 0
    finally:
        if bench:
            bench.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
