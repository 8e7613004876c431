#!/usr/bin/env python3
"""The rows of `make bench`: each a ratio of two commands run in turns, or a figure with its own unit.

A ratio is of medians of wall time; behind it stand the lowest and the highest ratio of single pairs. Input is warm in
the page cache; before each timed run the disk has nothing left to write. What a row makes durable is named in it.
"""
import argparse
import contextlib
import os
import pathlib
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time

import hose

ARGS = argparse.ArgumentParser()
ARGS.add_argument("--bin", required=True)
ARGS.add_argument("--work", required=True)
ARGS.add_argument("--only", default="")
ARGS.add_argument("--pairs", type=int, default=5)
args = ARGS.parse_args()
WORK = pathlib.Path(args.work)
os.chdir(WORK)
os.environ["PATH"] = args.bin + ":" + os.environ["PATH"]
os.environ.pop("KPIPE_ROOT", None)
ROWS = []


def wanted(name):
    words = [word for word in args.only.split(",") if word]
    return not words or any(word in name for word in words)


def row(name, figure, must, aim=None, note="", more_is_better=False):
    """Prints a figure and how it stands to what it must be and what it aims at; `None` where nothing is asked."""
    def reaches(limit):
        return limit is not None and (figure >= limit if more_is_better else figure <= limit)

    verdict = "" if must is None and aim is None else "aim" if reaches(aim) else "must" if must is None or reaches(must) else "MISSED"
    want = ", ".join(f"{word} {limit:g}" for word, limit in (("must", must), ("aim", aim)) if limit is not None)
    line = f"{name:<74} {figure:>9.2f}  {want:<20} {verdict:<7} {note}"
    print(line, flush=True)
    ROWS.append(line)


def sh(command, **options):
    return subprocess.run(["sh", "-c", command], check=True, **options)


def timed(command):
    os.sync()
    begin = time.perf_counter()
    sh(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begin


def ratio(ours, theirs, prepare=lambda: None):
    """Median of ours over median of theirs, run in turns, and what to print behind it."""
    a, b = [], []
    for turn in range(args.pairs + 1):
        prepare()
        ours_s = timed(ours)
        theirs_s = timed(theirs)
        if turn:  # the first pair warms caches
            a.append(ours_s)
            b.append(theirs_s)
    single = [x / y for x, y in zip(a, b)]
    note = f"({min(single):.2f}..{max(single):.2f}; {statistics.median(a):.2f} s against {statistics.median(b):.2f} s)"
    return statistics.median(a) / statistics.median(b), note


def fresh(*names, shards=1, options=""):
    def prepare():
        for name in names:
            shutil.rmtree(name, ignore_errors=True)
            sh(f"kshard create {name} --shards {shards} {options} --quiet", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with contextlib.suppress(FileNotFoundError):
            os.unlink("OUT")

    return prepare


def data():
    """1 GB of 100-byte NDJSON records, the same as CSV, and 1 GB of 1 KiB records."""
    rng = random.Random(1)
    if not pathlib.Path("lines").exists():
        with open("lines.new", "w") as out:
            for block in range(100):
                rows = []
                for i in range(100_000):
                    user = rng.getrandbits(32)
                    text = '{"user":{"id":"u%08x"},"seq":%08d,"ts":%d,"ok":%s,"v":%d,"k":"' % (
                        user, block * 100_000 + i, 1_700_000_000_000 + i, "true" if user & 1 else "false", rng.randrange(10**9))
                    rows.append(text + "x" * (97 - len(text)) + '"}')
                out.write("\n".join(rows) + "\n")
        os.rename("lines.new", "lines")
    if not pathlib.Path("rows.csv").exists():
        with open("rows.new", "w") as out:
            out.write("seq,user,ts,ok,v,k\n")
            for block in range(100):
                rows = []
                for i in range(100_000):
                    user = rng.getrandbits(32)
                    text = "%08d,u%08x,%d,%s,%d," % (block * 100_000 + i, user, 1_700_000_000_000 + i, user & 1, rng.randrange(10**9))
                    rows.append(text + "x" * (99 - len(text)))
                out.write("\n".join(rows) + "\n")
        os.rename("rows.new", "rows.csv")
    if not pathlib.Path("long").exists():
        with open("long.new", "wb") as out:
            for _ in range(1_000):
                out.write(b"".join(b"%0508x%0515x\n" % (rng.getrandbits(2000), rng.getrandbits(2000)) for _ in range(976)))
        os.rename("long.new", "long")
    for name in ("lines", "rows.csv", "long"):
        sh(f"cat {name} > /dev/null")


CAT = "cat {0} | cat > OUT"


def kput_rows():
    for name, file, command, shards, options, must, aim in [
        ("kput --sync none, no key, 1 shard / cat|cat (neither syncs)", "lines", "kput s --sync none", 1, "", 1.5, 1.0),
        ("kput --sync none, no key, 1 shard, 1 KiB / cat|cat (neither syncs)", "long", "kput s --sync none", 1, "", 1.2, 0.8),
        ("kput --sync none, CSV column, 16 shards / cat|cat (neither syncs)", "rows.csv", "kput s --sync none -i csv --key user", 16, "", 2.0, 1.4),
        ("kput --sync none, JSON path, 16 shards / cat|cat (neither syncs)", "lines", "kput s --sync none --key user.id", 16, "", 3.0, 1.8),
        ("kput --sync none, lz4, 1 shard / cat|cat (neither syncs)", "lines", "kput s --sync none", 1, "--compression lz4", 3.0, 1.7),
    ]:
        if wanted(name):
            figure, note = ratio(f"cat {file} | {command}", CAT.format(file), fresh("s", shards=shards, options=options))
            row(name, figure, must, aim, note)


BARE = """
import os
source, out = os.open("lines", os.O_RDONLY), os.open("OUT", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
while block := os.read(source, 8 << 20):
    os.write(out, block)
    os.fdatasync(out)
"""


def durable_row():
    name = "kput, default sync, 1 shard / loop of 8 MiB write + fdatasync"
    if wanted(name):
        pathlib.Path("bare.py").write_text(BARE)
        figure, note = ratio("cat lines | kput s", f"{sys.executable} bare.py", fresh("s"))
        row(name, figure, 1.5, 1.15, note + " (all synced on both sides)")


def writers_row():
    name = "16 writers, 1 shard, --sync every / one writer, acknowledgements/s"
    if not wanted(name):
        return
    count = 2000
    sh(f"head -n {count} lines > few")
    many, one = [], []
    for _ in range(args.pairs):
        fresh("s")()
        one.append(count / timed("kput s --sync every < few"))
        fresh("s")()
        many.append(16 * count / timed("for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do kput s --sync every < few & done; wait"))
    figure = statistics.median(many) / statistics.median(one)
    row(name, figure, 2.5, 3.0, f"({statistics.median(many):.0f}/s against {statistics.median(one):.0f}/s, each synced)", more_is_better=True)


def kget_row():
    name = "kget of the whole stream | cat > /dev/null / cat|cat > /dev/null"
    if wanted(name):
        fresh("s")()
        sh("kput s --sync none --quiet < lines")
        figure, note = ratio("kget s | cat > /dev/null", "cat lines | cat > /dev/null")
        row(name, figure, 1.0, 0.6, note)


def latency_row():
    name = "append to arrival in a following kget, --sync none, p99 ms"
    if not wanted(name):
        return
    fresh("s")()
    # A record's arrival timestamp is when it was appended, to the microsecond; what is read is compared with the clock
    # as it comes out of the pipe.
    reader = subprocess.Popen(["kget", "s", "-f", "--template", "{epoch}\\n"], stdout=subprocess.PIPE, bufsize=0)
    writer = subprocess.Popen(["kput", "s", "--sync", "none"], stdin=subprocess.PIPE, bufsize=0)
    time.sleep(1)
    took = []
    for i in range(2200):
        os.write(writer.stdin.fileno(), b"%d\n" % i)
        appended = os.read(reader.stdout.fileno(), 100)
        arrived = time.time()
        if i >= 200:
            took.append((arrived - float(appended)) * 1e6)
        time.sleep(0.002)
    writer.stdin.close()
    writer.wait()
    reader.kill()
    reader.wait()
    took.sort()
    row(name, took[len(took) * 99 // 100] / 1000, 2.0, None, "(2000 records, 2 ms apart, this script's own wake-up included)")
    row("  the same, p50 us", took[len(took) // 2], None, 100.0)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_port(port):
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    raise RuntimeError("the server did not come up")


@contextlib.contextmanager
def server(command, port):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await_port(port)
        yield
    finally:
        process.kill()
        process.wait()


def kput_rate(count, sync):
    fresh("s")()
    return count / timed(f"cat part | kput s --sync {sync}")


def peer_row(name, count, sync, must, aim, theirs, who=""):
    """Records a second, kput against a peer, in turns. `theirs` runs the peer once and returns its rate, or raises."""
    sh(f"head -n {count} lines > part")
    a, b = [], []
    for turn in range(args.pairs + 1):
        try:
            peer = theirs()
        except (RuntimeError, subprocess.CalledProcessError) as error:
            print(f"{name}: left out: {error}")
            return
        ours = kput_rate(count, sync)
        if turn:
            a.append(ours)
            b.append(peer)
    ours, peer = statistics.median(a), statistics.median(b)
    single = [x / y for x, y in zip(a, b)]
    note = f"({min(single):.1f}..{max(single):.1f}; {ours:.0f}/s against {peer:.0f}/s{who})"
    row(name, ours / peer, must, aim, note, more_is_better=True)


def client(script, *arguments):
    """What a client in Python printed: a rate."""
    pathlib.Path("client.py").write_text(script)
    done = subprocess.run([sys.executable, "client.py", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"its client failed: {' '.join(done.stderr.strip().splitlines()[-1:])}")
    return float(done.stdout)


def redis_rows():
    for sync, mode, label in [("none", "no", "neither syncs"), ("8MiB,50ms", "always", "both sync before they acknowledge")]:
        name = f"records/s, kput / Redis XADD pipelined ({label})"
        if not wanted(name):
            continue
        if not shutil.which("redis-server"):
            print(f"{name}: left out: no redis-server here")
            continue
        count = 1_000_000
        sh(f"head -n {count} lines > part")
        with open("xadd", "wb") as out, open("part", "rb") as lines:
            for line in lines:
                line = line.rstrip(b"\n")
                out.write(b"*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$1\r\nd\r\n$%d\r\n%s\r\n" % (len(line), line))

        def redis():
            port = free_port()
            shutil.rmtree("redis", ignore_errors=True)
            os.mkdir("redis")
            options = ["--dir", "redis", "--save", "", "--appendonly", "no" if mode == "no" else "yes", "--appendfsync", mode]
            with server(["redis-server", "--port", str(port), "--bind", "127.0.0.1", *options], port):
                return count / timed(f"redis-cli -p {port} --pipe < xadd")

        peer_row(name, count, sync, 8.0, 20.0, redis)


def nats_rows():
    for mode, label in [("async", "each acknowledged, 500 in flight"), ("fast", "acknowledged in batches")]:
        name = f"records/s, kput --sync none / JetStream, {label} (both page cache)"
        if not wanted(name):
            continue
        if not (shutil.which("nats-server") and shutil.which("nats")):
            print(f"{name}: left out: no nats-server or no nats here")
            continue
        version = subprocess.run(["nats-server", "--version"], capture_output=True, text=True).stdout.split()[-1]

        def jetstream():
            port = free_port()
            shutil.rmtree("jetstream", ignore_errors=True)
            count = 500_000
            command = ["nats", "-s", f"nats://127.0.0.1:{port}", "bench", "js", "pub", mode, "bench", "--create", "--storage", "file",
                       "--size", "100", "--msgs", str(count), "--no-progress", "--maxbytes", "4GB"]
            with server(["nats-server", "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", "jetstream"], port):
                done = subprocess.run(command, capture_output=True, text=True)
            rate = re.search(r"([\d,]+) msgs/sec", done.stdout + done.stderr)
            if not rate:
                raise RuntimeError(f"its client failed: {' '.join(done.stderr.strip().splitlines()[-1:])}")
            return float(rate[1].replace(",", ""))

        peer_row(name, 1_000_000, "none", 40.0, 100.0, jetstream, f" of its own client in Go, server {version}")


KINESALITE = """
import sys, time, boto3
port, count = int(sys.argv[1]), int(sys.argv[2])
client = boto3.client("kinesis", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
                      aws_access_key_id="x", aws_secret_access_key="x")
client.create_stream(StreamName="s", ShardCount=1)
while client.describe_stream(StreamName="s")["StreamDescription"]["StreamStatus"] != "ACTIVE":
    time.sleep(0.1)
lines = open("part", "rb").read().splitlines()[:count]
begin = time.perf_counter()
for at in range(0, count, 500):
    done = client.put_records(StreamName="s", Records=[{"Data": line, "PartitionKey": "k"} for line in lines[at:at + 500]])
    assert done["FailedRecordCount"] == 0
print(count / (time.perf_counter() - begin))
"""


def kinesalite_row():
    name = "records/s, kput --sync none / kinesalite PutRecords of 500 (neither syncs)"
    if not wanted(name):
        return
    main = WORK / "node_modules/kinesalite/cli.js"
    if not main.exists():
        print(f"{name}: left out: no kinesalite here")
        return

    def kinesalite():
        port = free_port()
        with server(["node", str(main), "--port", str(port), "--createStreamMs", "1", "--shardLimit", "10"], port):
            return client(KINESALITE, port, 50_000)

    peer_row(name, 1_000_000, "none", 300.0, 800.0, kinesalite, " of boto3")


def s2_row():
    name = "records/s, kput default sync / s2-lite append, local disk (both sync)"
    if not wanted(name):
        return
    if not shutil.which("s2"):
        print(f"{name}: left out: no s2 here")
        return
    count = 200_000

    def s2():
        port = free_port()
        shutil.rmtree("s2-data", ignore_errors=True)
        os.mkdir("s2-data")
        where = f"http://127.0.0.1:{port}"
        os.environ.update({"S2_ACCOUNT_ENDPOINT": where, "S2_BASIN_ENDPOINT": where, "S2_ACCESS_TOKEN": "x"})
        with server(["s2", "lite", "--local-root", "s2-data", "--port", str(port)], port):
            sh("s2 create-basin bench-basin && s2 create-stream s2://bench-basin/s", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            return count / timed("s2 append s2://bench-basin/s < part")

    peer_row(name, count, "8MiB,50ms", 1.0, None, s2)


def peak_mib(command):
    done = subprocess.run(["sh", "-c", command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return int(done.stderr.strip().splitlines()[-1]) / 1024


PEAK = """import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdin=sys.stdin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
"""


def memory_rows():
    if not wanted("memory"):
        return
    pathlib.Path("peak.py").write_text(PEAK)
    limit = 66.0  # 64 MiB and twice the record limit of 1 MiB
    for shards in (1, 16, 1000):
        fresh("s", shards=shards)()
        mib = peak_mib(f"{sys.executable} peak.py kput s --sync none --key user.id < lines")
        row(f"memory of kput, JSON path, {shards} shards, MiB", mib, limit)
        mib = peak_mib(f"{sys.executable} peak.py kget s --order arrival < /dev/null")
        row(f"memory of kget --order arrival, {shards} shards, MiB", mib, limit)


def open_row():
    name = "kshard describe, 1,000 shards and 10,000 segments, ms"
    if not wanted(name):
        return
    fresh("s", shards=1000, options="--segment-size 64KiB")()
    sh("head -n 9000000 lines | kput s --sync none --key user.id --quiet")
    segments = sum(1 for _ in pathlib.Path("s").glob("*/*.seg"))
    took = sorted(timed("kshard describe s -o json") * 1000 for _ in range(11))
    row(name, took[5], 50.0, None, f"({segments} segments)")
    took = sorted(timed("kget s --limit 1") * 1000 for _ in range(11))
    row("kget --limit 1 of the same, ms", took[5], 50.0)


def small_rows():
    name = "kput --help / true"
    if wanted(name):
        a, b = [], []
        for _ in range(100):
            begin = time.perf_counter()
            subprocess.run(["kput", "--help"], stdout=subprocess.DEVNULL)
            middle = time.perf_counter()
            subprocess.run(["/bin/true"], stdout=subprocess.DEVNULL)
            a.append(middle - begin)
            b.append(time.perf_counter() - middle)
        row(name, statistics.median(a) / statistics.median(b), 3.0, 2.0)
    if wanted("size"):
        for program in ("kput", "kget", "kshard"):
            row(f"size of {program}, MB", os.path.getsize(pathlib.Path(args.bin) / program) / 1e6, 4.0)


print(f"# {os.cpu_count()} cores, {args.pairs} pairs each; load at the start {os.getloadavg()[0]:.1f}")
data()
small_rows()
kput_rows()
durable_row()
writers_row()
kget_row()
latency_row()
redis_rows()
nats_rows()
kinesalite_row()
s2_row()
open_row()
memory_rows()
hose.rows(sys.modules[__name__])
missed = [line for line in ROWS if "MISSED" in line]
print(f"# {len(ROWS)} rows, {len(missed)} missed their must; load at the end {os.getloadavg()[0]:.1f}")
