#!/bin/sh
# Ratios of kpipe against what one would otherwise run, each pair measured in turns in one run.
#
#   make bench                 all of it: 4 GB of input and streams, half an hour; the first time it also brings the peers
#   make bench ONLY=kput,kget  rows whose name has one of these words
#   make bench PAIRS=9         more turns than 5
#   make bench PEERS=no        brings no peer that is not here
#
# Peers come from the registries, into the bench's own directory where that can be: a client by pip, kinesalite by npm,
# nats-server and nats by go, s2 by cargo (a quarter of an hour on two cores, once), redis-server by apt. What cannot be had is
# said, and its row left out.
set -eu
cd "$(dirname "$0")/.."
make build
target=${CARGO_TARGET_DIR:-target}
bin=$(cd "$target/release" && pwd)
work=${BENCH_DIR:-$target/bench}
mkdir -p "$work"
work=$(cd "$work" && pwd)
PATH="$work/peers/bin:$PATH"

# wanted WORD...: whether a row with one of these words will be run.
wanted() {
    [ "${PEERS:-yes}" = yes ] || return 1
    [ -n "${ONLY:-}" ] || return 0
    for word; do
        case ",$ONLY," in *",$word,"*) return 0 ;; esac
    done
    return 1
}

left_out() { echo "bench: $1 cannot be had: its row is left out"; }

if wanted records redis Redis && ! command -v redis-server >/dev/null; then
    # Debian starts it as a service; a policy that says no keeps it from running, and what runs already is not touched.
    policy=/usr/sbin/policy-rc.d
    if [ "$(id -u)" = 0 ] && [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f "$policy"' EXIT
        { apt-get update -q && apt-get install -qy --no-install-recommends redis-server; } >/dev/null 2>&1 || :
        rm -f "$policy"
        trap - EXIT
    fi
    command -v redis-server >/dev/null || left_out redis-server
fi
for module in github.com/nats-io/nats-server/v2 github.com/nats-io/natscli/nats; do
    name=${module#github.com/nats-io/}
    name=${name%/v2}
    if wanted records nats JetStream && ! command -v "${name#natscli/}" >/dev/null; then
        GOBIN="$work/peers/bin" go install "$module@latest" >/dev/null 2>&1 || left_out "${name#natscli/}"
    fi
done
if wanted records s2 s2-lite && ! command -v s2 >/dev/null; then
    echo 'bench: building s2, which takes a while'
    CARGO_TARGET_DIR="$work/peers/target" cargo install --quiet --locked --root "$work/peers" s2-cli >/dev/null 2>&1 ||
        left_out s2
fi
if wanted records kinesalite && [ ! -d "$work/node_modules/kinesalite" ]; then
    (cd "$work" && npm install --silent --no-fund --no-audit kinesalite >/dev/null 2>&1) || left_out kinesalite
fi
python=python3
if wanted records kinesalite && [ ! -x "$work/venv/bin/python" ]; then
    { python3 -m venv "$work/venv" && "$work/venv/bin/pip" -q install boto3; } ||
        left_out 'the Python client of kinesalite'
fi
if wanted khose NDJSON Parquet; then
    command -v pigz >/dev/null || { [ "$(id -u)" = 0 ] && apt-get install -qy --no-install-recommends pigz >/dev/null 2>&1; } ||
        left_out pigz
    [ -x "$work/venv/bin/python" ] || python3 -m venv "$work/venv" || left_out 'a Python environment'
    [ ! -x "$work/venv/bin/pip" ] || "$work/venv/bin/pip" -q install duckdb polars || left_out 'DuckDB and polars'
fi
[ ! -x "$work/venv/bin/python" ] || export BENCH_PYTHON="$work/venv/bin/python"
[ ! -x "$work/venv/bin/python" ] || python="$work/venv/bin/python"
exec "$python" benches/bench.py --bin "$bin" --work "$work" --only "${ONLY:-}" --pairs "${PAIRS:-5}"
