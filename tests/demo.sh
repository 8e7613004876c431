#!/bin/sh
# The programs at work on real lines, ending with one of them killed in the middle of its work.
#
#   make demo                  on the first log found here
#   LOG=/var/log/x make demo   on that one
#
# Works on a fresh Debian or Ubuntu with Rust. Everything it stores lies in a temporary directory that it removes.
set -eu
cd "$(dirname "$0")/.."

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n# %s\n' "$*"; }
die() { printf 'demo: %s\n' "$*" >&2; exit 1; }
# Shows a command line as it would be typed, then runs it.
run() { printf '$ %s\n' "$1"; sh -euc "$1"; }

need() {
    packages=
    command -v cc >/dev/null || packages="gcc libc6-dev"
    command -v awk >/dev/null || packages="$packages mawk"
    if [ -n "$packages" ]; then
        say "Installing $packages"
        sudo=
        [ "$(id -u)" = 0 ] || sudo=sudo
        $sudo apt-get update -q
        # shellcheck disable=SC2086 # a list of words
        $sudo apt-get install -qy --no-install-recommends $packages
    fi
    command -v cargo >/dev/null || PATH="$HOME/.cargo/bin:$PATH"
    command -v cargo >/dev/null || die 'Rust is missing; https://rustup.rs installs it'
}

# Puts the input at $work/access.log, whole lines, and says where it is from.
input() {
    set -- ../shared/data/access.log /var/log/nginx/access.log /var/log/apache2/access.log \
        /var/log/syslog /var/log/messages /var/log/dpkg.log
    [ -z "${LOG:-}" ] || set -- "$LOG"
    for file; do
        if [ -r "$file" ] && [ "$(head -n 100 "$file" | wc -l)" -eq 100 ]; then
            head -n 300000 "$file" > "$work/access.log"
            say "The input: $(wc -l < "$work/access.log") lines of $file"
            return
        fi
    done
    [ -z "${LOG:-}" ] || die "$LOG cannot be read or has fewer than 100 lines"
    awk 'BEGIN {
        srand(1)
        for (i = 0; i < 200000; i++)
            printf "192.0.2.%d - - [01/Jan/2026:00:%02d:%02d +0000] \"GET /page/%d HTTP/1.1\" 200 %d\n",
                rand() * 250, i / 60 % 60, i % 60, rand() * 1000, rand() * 90000
    }' > "$work/access.log"
    say "The input: $(wc -l < "$work/access.log") lines made up here (no log was found on this machine)"
}

need
say 'Building the programs'
# As make build has it, so that nothing is built twice. khose takes minutes more: it is shown where it has been built.
cargo build --release --locked --no-default-features --bin kput --bin kget --bin kshard
target=${CARGO_TARGET_DIR:-target}
PATH="$(cd "$target/release" && pwd):$PATH"

work=$(mktemp -d)
writer=
trap '[ -z "$writer" ] || kill -9 "$writer" 2>/dev/null || :; rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
export PATH KPIPE_ROOT="$work/streams"
mkdir "$KPIPE_ROOT"
input
cd "$work"

say 'Store it: four shards, the first word of a line is its partition key'
run "kput --create=4 web --key-regex '^(\S+)' < access.log"

say 'Look at it'
run 'kshard describe web'
run 'kget web -o json | head -n 3'

say 'What went in comes out, and the lines of one key keep their order'
run 'kget web | sort | cksum; sort access.log | cksum'
[ "$(kget web | sort | cksum)" = "$(sort access.log | cksum)" ] || die 'what came out is not what went in'
key=$(head -n 1 access.log | awk '{ print $1 }')
first='index($0, key) == 1 && substr($0, length(key) + 1, 1) ~ /[ \t]|^$/'
kget web | awk -v key="$key" "$first" | cksum > ordered.out
awk -v key="$key" "$first" access.log | cksum > ordered.in
cmp -s ordered.out ordered.in || die "the lines of $key have changed their order"
echo "the lines of $key: the same, in the same order"

say 'A named producer is killed with kill -9 in the middle of its work'
# Fed slowly enough for there to be a middle: about five seconds for the whole.
pace='{ print } NR % int(lines / 100 + 1) == 0 { fflush(); system("sleep 0.05") }'
printf '$ %s\n' "pace access.log | kput --create=4 load --producer loader --key-regex '^(\S+)' &"
lines=$(wc -l < access.log)
awk -v lines="$lines" "$pace" access.log | kput --create=4 load --producer loader --key-regex '^(\S+)' &
writer=$!
tries=0
until [ "$(kget load 2>/dev/null | wc -l)" -gt $((lines / 10)) ]; do
    kill -0 "$writer" 2>/dev/null || break
    tries=$((tries + 1))
    [ "$tries" -lt 600 ] || die 'nothing arrived in the stream within a minute'
    sleep 0.1
done
if kill -9 "$writer" 2>/dev/null; then
    echo "\$ kill -9 $writer"
else
    echo 'it was done before it could be killed: this input is too short to be caught in the middle'
fi
wait "$writer" 2>/dev/null || :
writer=
stored=$(kget load | wc -l)
echo "stored so far: $stored of $lines lines"

say 'The same command again goes on where the disk says the first one was'
run "kput load --producer loader --key-regex '^(\S+)' < access.log"
run 'kget load | wc -l; wc -l < access.log'
[ "$(kget load | wc -l)" -eq "$lines" ] || die 'the counts differ'
[ "$(kget load | sort | cksum)" = "$(sort access.log | cksum)" ] || die 'the lines differ'
say "Every line once: $lines stored, none twice, none missing"

command -v khose >/dev/null || { say 'make build makes khose as well, and then make demo shows how it delivers'; exit 0; }

say 'khose delivers the stream to a directory, and is killed on the way too'
echo '$ khose web ./lake/ -o lines --compression gzip --buffer-size 16KiB &'
khose web ./lake/ -o lines --compression gzip --buffer-size 16KiB &
writer=$!
tries=0
until [ -n "$(find lake -name '*.gz' 2>/dev/null | head -n 1)" ]; do
    kill -0 "$writer" 2>/dev/null || break
    tries=$((tries + 1))
    [ "$tries" -lt 600 ] || die 'nothing was delivered within a minute'
    sleep 0.05
done
if kill -9 "$writer" 2>/dev/null; then echo "\$ kill -9 $writer"; fi
wait "$writer" 2>/dev/null || :
writer=
run 'khose web ./lake/ -o lines --compression gzip --buffer-size 16KiB'
run 'khose --verify web ./lake/ -o lines --compression gzip'
run "find lake -name '*.gz' -exec gunzip -c {} + | wc -l"
[ "$(find lake -name '*.gz' -exec gunzip -c {} + | sort | cksum)" = "$(sort access.log | cksum)" ] || die 'the lines differ'
say "Every line is in one object: $(find lake -name '*.gz' | wc -l) of them"
