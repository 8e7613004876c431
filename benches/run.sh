#!/bin/sh
# Ratios of kpipe against what one would otherwise run, each pair measured in turns in one run.
#
#   make bench                 all of it: about 1.2 GB of input, 6 GB of free disk, half an hour
#   make bench ONLY=kput,kget  rows whose name has one of these words
#   make bench PAIRS=9         more turns than 5
#
# Peers are installed from registries where they are missing (redis-server and nats-server with apt as root, Python
# clients into a virtual environment, kinesalite with npm); what cannot be had is said, and its row left out.
set -eu
cd "$(dirname "$0")/.."
cargo build --release --locked --bin kput --bin kget --bin kshard
target=${CARGO_TARGET_DIR:-target}
bin=$(cd "$target/release" && pwd)
work=${BENCH_DIR:-$target/bench}
mkdir -p "$work"
work=$(cd "$work" && pwd)
if [ ! -x "$work/venv/bin/python" ] && [ "${PEERS:-yes}" = yes ]; then
    python3 -m venv "$work/venv" && "$work/venv/bin/pip" -q install nats-py boto3 ||
        echo 'bench: the Python clients of the peers cannot be installed: their rows are left out'
fi
python=python3
[ ! -x "$work/venv/bin/python" ] || python="$work/venv/bin/python"
if [ "${PEERS:-yes}" = yes ] && [ "$(id -u)" = 0 ]; then
    for peer in redis-server nats-server; do
        command -v "$peer" >/dev/null || apt-get install -qy --no-install-recommends "$peer" >/dev/null 2>&1 || {
            apt-get update -q >/dev/null 2>&1 &&
                apt-get install -qy --no-install-recommends "$peer" >/dev/null 2>&1
        } || echo "bench: $peer cannot be installed: its row is left out"
        # What apt starts as a service is of no use here and takes the port.
        pkill -x "$peer" 2>/dev/null || :
    done
    [ -d "$work/node_modules/kinesalite" ] ||
        (cd "$work" && npm install --silent --no-fund --no-audit kinesalite >/dev/null 2>&1) ||
        echo 'bench: kinesalite cannot be installed: its row is left out'
fi
exec "$python" benches/bench.py --bin "$bin" --work "$work" --only "${ONLY:-}" --pairs "${PAIRS:-5}"
