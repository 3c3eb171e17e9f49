#!/usr/bin/env bash
# Holds the WebSocket side of `tidings serve` to the Autobahn|Testsuite: RFC 6455, and with
# --compression also permessage-deflate (RFC 7692).
#
#   tests/conformance/run.sh [--compression] [--url ws://HOST:PORT/PATH]
#
# --url tests an echo server that runs already; otherwise $TIDINGS_BIN is started, or the release
# build is made and started. The suite needs Python 2.7; where there is none, this says "skipped"
# and succeeds. It is installed once, into $TIDINGS_CACHE (default: target/conformance).
# The last line is "N passed, N failed"; the exit code is 1 if any case failed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${TIDINGS_CACHE:-$root/target/conformance}
cases='"1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"'
compression=false
url=

while [ $# -gt 0 ]; do
  case $1 in
    --compression) compression=true; cases="$cases, \"12.*\", \"13.*\"" ;;
    --url) url=${2:?"--url needs a value"}; shift ;;
    *) echo "usage: $0 [--compression] [--url URL]" >&2; exit 2 ;;
  esac
  shift
done

skip() { echo "skipped: $1"; exit 0; }

# Python 2.7 on the PATH or among pyenv's versions.
python27() {
  local candidate
  for candidate in python2.7 python2 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7*/bin/python2.7; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

install_suite() {
  local python log=$cache/install.log
  python=$(python27) || skip "the Autobahn|Testsuite needs Python 2.7, and there is none here"
  echo "installing the Autobahn|Testsuite into $cache (log: $log)"
  rm -rf "$cache/venv"
  # 20.21 is the last virtualenv that makes environments for Python 2.7.
  if ! "$python" -m virtualenv "$cache/venv" >"$log" 2>&1; then
    "$python" -m pip install --target "$cache/virtualenv" 'virtualenv<20.22' >>"$log" 2>&1 &&
      PYTHONPATH=$cache/virtualenv "$python" -m virtualenv "$cache/venv" >>"$log" 2>&1 ||
      skip "no virtualenv for Python 2.7 can be made (see $log)"
  fi
  "$cache/venv/bin/pip" install autobahntestsuite >>"$log" 2>&1 ||
    skip "autobahntestsuite can't be installed (see $log)"
}

mkdir -p "$cache"
[ -x "$cache/venv/bin/wstest" ] || install_suite

work=$(mktemp -d)
server=
finish() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

start_server() {
  local binary=${TIDINGS_BIN:-$root/target/release/tidings}
  [ -n "${TIDINGS_BIN:-}" ] || (cd "$root" && cargo build --release --bin tidings)
  cat >"$work/tidings.toml" <<TOML
[public]
listen = "127.0.0.1:0"
[internal]
listen = "127.0.0.1:0"
[websocket]
dialect = "echo"
compression = $compression
[limits]
message_bytes = 33554432
outbox_bytes = 67108864
messages_per_second = 0
[heartbeat]
interval = "30s"
timeout = "60s"
TOML
  # Neither is a setting of the server, which refuses settings that it does not know.
  env -u TIDINGS_CACHE -u TIDINGS_BIN "$binary" serve --dev --config "$work/tidings.toml" --ready-file "$work/ready.json" \
    >"$cache/server.log" 2>&1 &
  server=$!
  local attempt
  for attempt in $(seq 300); do
    [ -s "$work/ready.json" ] && break
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  [ -s "$work/ready.json" ] || { tail -n 20 "$cache/server.log" >&2; exit 1; }
  url=ws://$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["public"])' \
    "$work/ready.json")/ws
}

[ -n "$url" ] || start_server

report=$cache/report
rm -rf "$report"
cat >"$work/fuzzingclient.json" <<JSON
{
  "outdir": "$report",
  "servers": [{ "agent": "tidings", "url": "$url" }],
  "cases": [$cases],
  "exclude-cases": [],
  "exclude-agent-cases": {}
}
JSON
echo "testing $url (report: $report/index.html)"
(cd "$work" && "$cache/venv/bin/wstest" -m fuzzingclient -s "$work/fuzzingclient.json") \
  >"$cache/wstest.log" 2>&1 || { tail -n 20 "$cache/wstest.log" >&2; exit 1; }
python3 "$here/verdict.py" "$report/index.json"
