#!/usr/bin/env bash
# Compares the gateway with prio-load-balancer, one core each for who is measured and for generator and node:
#   compare.sh MILLRACE PRIO-LOAD-BALANCER [CONNECTIONS SECONDS PAIRS]
# Needs wrk and taskset. Prints, for each in turn, requests, CPU of a request in µs, p50 and p99. "rpc" reads the JSON,
# "hit" answers from the cache, "bare" is a net/http handler that writes a constant.
set -euo pipefail
millrace=$(realpath "$1") plb=$(realpath "$2") conns=${3:-8} secs=${4:-5} pairs=${5:-5}
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$dir"' EXIT
(cd "$here" && go build -o "$dir/backend" .)
cat > "$dir/post.lua" <<'LUA'
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"to":"0x0000000000000000000000000000000000000001"},"latest"]}'
LUA
sed 's/eth_call.*\]}/eth_chainId","params":[]}/' "$dir/post.lua" > "$dir/hit.lua"
node='http://127.0.0.1:18100?_workers=64'
taskset -c 0 "$dir/backend" 127.0.0.1:18100 "${SIZE:-80}" &
GOMAXPROCS=1 taskset -c 1 "$dir/backend" 127.0.0.1:18105 80 http &
bare_pid=$!
NODES=$node REDIS_URI= GOMAXPROCS=1 taskset -c 1 "$plb" -http 127.0.0.1:18101 > /dev/null 2>&1 &
plb_pid=$!
cd "$dir"
GOMAXPROCS=1 taskset -c 1 "$millrace" gateway --gateway.node_urls="$node" --gateway.listen=127.0.0.1:18102 --gateway.listen_jsonrpc=127.0.0.1:18103 \
  --no-gateway.cache.coalesce --admin.listen=127.0.0.1:18104 --gateway.health_check.check=none > /dev/null 2>&1 &
gw_pid=$!
sleep 3
ticks() { awk '{print $14 + $15}' "/proc/$1/stat"; }
leg() { # name pid port script
  local before after n
  before=$(ticks "$2")
  taskset -c 0 wrk -t1 -c"$conns" -d"${secs}s" --latency -s "$4" "http://127.0.0.1:$3/" > out.txt
  after=$(ticks "$2")
  n=$(awk '/requests in/ {print $1}' out.txt)
  awk -v name="$1" -v n="$n" -v t=$((after - before)) '/^ *50%/ {a = $2} /^ *99%/ {b = $2} /Non-2xx|Socket errors/ {e = $0}
    END {printf "%-5s %8d requests  %5.1f µs CPU  p50 %s  p99 %s %s\n", name, n, t * 10000 / n, a, b, e}' out.txt
}
for _ in $(seq "$pairs"); do
  leg plb "$plb_pid" 18101 post.lua
  leg prio "$gw_pid" 18102 post.lua
  leg rpc "$gw_pid" 18103 post.lua
  leg hit "$gw_pid" 18103 hit.lua
  leg bare "$bare_pid" 18105 hit.lua
done
