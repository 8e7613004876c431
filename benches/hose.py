"""khose against what one would otherwise run on the same data: 4 million flat records, about 600 MB of NDJSON.

Each command writes to the local disk and reads what is in the page cache; khose reads a stream and syncs its objects,
the others read the file and sync nothing.
"""
import os
import pathlib
import random
import shlex
import shutil
import statistics
import subprocess
import threading
import time

RECORDS = 4_000_000
DUCKDB = "import duckdb; c = duckdb.connect(); c.execute(\"COPY (SELECT * FROM read_ndjson('flat.ndjson')) TO 'PEER' (%s)\")"
POLARS = "import polars; polars.scan_ndjson('flat.ndjson').sink_parquet('PEER', compression='zstd', compression_level=1)"


def data(bench):
    """Eight flat columns: numbers, text of few and of many values, a time, a boolean."""
    if not pathlib.Path("flat.ndjson").exists():
        rng = random.Random(2)
        with open("flat.new", "w") as out:
            for block in range(RECORDS // 100_000):
                rows = []
                for i in range(100_000):
                    n = block * 100_000 + i
                    rows.append(
                        '{"id":%d,"user":"u%06d","event":"%s","at":"2026-01-%02dT%02d:%02d:%02d.%03dZ","price":%.2f,"qty":%d,"ok":%s,"session":"%08x"}'
                        % (n, rng.randrange(100_000), rng.choice(("view", "click", "cart", "buy", "leave")), 1 + n % 28, n % 24,
                           n % 60, rng.randrange(60), rng.randrange(1000), rng.random() * 500, rng.randrange(20),
                           "true" if rng.getrandbits(1) else "false", rng.getrandbits(32)))
                out.write("\n".join(rows) + "\n")
        os.rename("flat.new", "flat.ndjson")
    if not pathlib.Path("flat").is_dir():
        bench.sh("kput --create=1 flat < flat.ndjson")
    bench.sh("cat flat.ndjson flat/shardId-*/* > /dev/null")


def clear():
    shutil.rmtree("hose.out", ignore_errors=True)
    for name in ("PEER", "PEER.gz"):
        pathlib.Path(name).unlink(missing_ok=True)


def python(bench, code):
    name = f"peer-{abs(hash(code))}.py"
    path = pathlib.Path(name)
    path.write_text(code)
    return f"{os.environ.get('BENCH_PYTHON', 'python3')} {name}"


def has(bench, module):
    command = [os.environ.get("BENCH_PYTHON", "python3"), "-c", f"import {module}"]
    found = subprocess.run(command, capture_output=True).returncode == 0
    if not found:
        print(f"# {module} is not there: its rows are left out")
    return found


def khose(options):
    # A consumer of its own each time: it delivers all of it each time.
    return f"khose flat hose.out/ {options} --buffer-size 1GiB --consumer bench-$(date +%s%N) --quiet"


def peak_mib(bench, command):
    pathlib.Path("peak.py").write_text(bench.PEAK)
    # The consumer's name is made by the shell.
    return bench.peak_mib(f"python3 peak.py sh -c {shlex.quote('exec ' + command)} < /dev/null")


def throughput_rows(bench):
    against = []
    parquet = khose("-o parquet --parquet-compression zstd:1")
    if has(bench, "duckdb"):
        duckdb = python(bench, DUCKDB % "FORMAT parquet, COMPRESSION zstd")
        against.append(("NDJSON to Parquet: DuckDB / khose", parquet, duckdb, 1.15, 1.5))
        csv = python(bench, DUCKDB % "FORMAT csv, HEADER")
        against.append(("NDJSON to CSV: DuckDB / khose", khose("-o csv"), csv, 1.2, 1.5))
    if has(bench, "polars"):
        against.append(("NDJSON to Parquet: polars sink_parquet / khose", parquet, python(bench, POLARS), 1.1, 1.4))
    if shutil.which("pigz"):
        pigz = "pigz -1 < flat.ndjson > PEER.gz"
        against.append(("NDJSON, gzip: pigz -1 / khose", khose("-o ndjson --compression gzip:1"), pigz, 1.0, None))
    for name, ours, theirs, must, aim in against:
        if bench.wanted(name):
            figure, note = bench.ratio(theirs, ours, clear)
            bench.row(name, figure, must, aim, note, more_is_better=True)
    if has(bench, "duckdb") and bench.wanted("NDJSON to Parquet: memory"):
        clear()
        ours = peak_mib(bench, parquet)
        clear()
        theirs = peak_mib(bench, python(bench, DUCKDB % "FORMAT parquet, COMPRESSION zstd"))
        bench.row("NDJSON to Parquet: memory, khose / DuckDB", ours / theirs, 0.25, None, f"({ours:.0f} MiB against {theirs:.0f} MiB)")
    clear()


def partitions_row(bench):
    if bench.wanted("khose memory"):
        clear()
        command = khose("-o parquet --prefix 'u=!{partitionKeyFromQuery:part}/' --partition-query '{part: (.id % 500)}'")
        command = command.replace("--quiet", "--quiet --until now")
        mib = peak_mib(bench, command)
        bench.row("khose memory with 500 active partitions, MiB", mib, None, None, "(4 million records, Parquet)")
        clear()


def latency_row(bench):
    """From append to the object's appearance, with a buffer interval of a second."""
    name = "khose -f, append to object, p99 s, buffer interval 1 s"
    if not bench.wanted(name):
        return
    shutil.rmtree("tick", ignore_errors=True)
    clear()
    bench.sh("kshard create tick --quiet")
    hose = subprocess.Popen(["khose", "tick", "hose.out/", "-o", "lines", "-f", "--buffer-interval", "1s", "--quiet"])
    seen, took, done = {}, [], threading.Event()

    def watch():
        known = set()
        while not done.is_set():
            for path in pathlib.Path("hose.out").rglob("tick-*"):
                if path.name not in known and ".tmp" not in path.parts:
                    known.add(path.name)
                    now = time.monotonic()
                    for line in path.read_text().splitlines():
                        took.append(now - seen[int(line)])
            time.sleep(0.005)

    thread = threading.Thread(target=watch)
    thread.start()
    time.sleep(1)
    for i in range(60):
        seen[i] = time.monotonic()
        subprocess.run(["kput", "tick"], input=f"{i}\n", text=True, check=True)
        time.sleep(0.25)
    time.sleep(3)
    done.set()
    thread.join()
    hose.terminate()
    hose.wait()
    took.sort()
    if len(took) != 60:
        print(f"# {len(took)} of 60 records were seen")
    bench.row(name, took[len(took) * 99 // 100], 1.5, None, f"(median {statistics.median(took):.2f} s, {len(took)} records)")


def rows(bench):
    names = ("NDJSON", "khose")
    if not any(bench.wanted(name) for name in names) and bench.args.only:
        words = [word for word in bench.args.only.split(",") if word]
        if not any(word in name for word in words for name in ("NDJSON to Parquet", "NDJSON to CSV", "khose -f", "gzip")):
            return
    data(bench)
    throughput_rows(bench)
    partitions_row(bench)
    latency_row(bench)
