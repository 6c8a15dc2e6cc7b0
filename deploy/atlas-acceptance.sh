#!/usr/bin/env bash
# Ten commands for a real Atlas host, each with the figure that it must show. Nobody who wrote this project has an NPU: what
# these commands prove there, the project's own tests can only show on stand-ins.
#
#   source /usr/local/Ascend/ascend-toolkit/set_env.sh         # CANN 8.5 and later: /usr/local/Ascend/cann/set_env.sh
#   deploy/atlas-acceptance.sh MODEL_DIR [CROPS]
#
# MODEL_DIR: what `python -m model_build export` wrote; OMs are added to it. CROPS: a folder of person crops; without one,
# drawn people. `reid` and `python` must be those of the environment that the project is installed in. Without atc (a
# serving image has none) the OMs must be there already, and three commands are left out, which is said at the end.
#
#   CHIPS=0,1       chips to use          MIN_PER_S=2000  images/s that the best batch size must reach (310P3: 4287 at 8)
#   SIZES=1,4,8,16  batch sizes           ROUNDS=200      requests of 16 crops for the memory check (24 h: about 2000000)
#   LOOP=100        runs of each size     WAIT_S=300      seconds for a server or a chip to be ready
set -uo pipefail
export LC_ALL=C.UTF-8
unset ${!REID_*}  # the CPU is to be the CPU in 8, whatever this host serves with
model=${1:?usage: deploy/atlas-acceptance.sh MODEL_DIR [CROPS]}
crops=${2:-}
refuse() { echo "error: $*" >&2; exit 2; }
command -v reid >/dev/null || refuse "there is no command \`reid\` on the PATH: activate the environment that the project is in"
python -c 'import app, httpx, model_build, numpy' 2>/dev/null ||
  refuse "\`python\` ($(command -v python || echo 'not on the PATH')) does not have this project and httpx: activate its environment"
[ -f "$model/manifest.json" ] || refuse "$model has no manifest.json: \`python -m model_build export\` makes a model directory"
[ -z "$crops" ] || [ -d "$crops" ] || refuse "there is no folder $crops"
CHIPS=${CHIPS:-0,1} SIZES=${SIZES:-1,4,8,16} MIN_PER_S=${MIN_PER_S:-2000} ROUNDS=${ROUNDS:-200}
LOOP=${LOOP:-100} WAIT_S=${WAIT_S:-300}
devices=$(printf 'ascend:%s,' ${CHIPS//,/ }); devices=${devices%,}
work=$(mktemp -d); server=; ok=0; failed=0; left_out=0

cleanup() { [ -z "$server" ] || { kill "$server"; wait "$server"; } 2>/dev/null; rm -rf "$work"; }
trap cleanup EXIT
passed() { ok=$((ok + 1)); echo "ok        $*"; }
falls() { failed=$((failed + 1)); echo "FALLS     $*"; [ ! -s "$work/log" ] || tail -n 12 "$work/log" | sed 's/^/          | /'; }
skipped() { left_out=$((left_out + 1)); echo "left out  $*"; }
says() { python -c "import json, sys; d = json.load(open(sys.argv[1])); print($1)" "$2" 2>>"$work/log"; }
on_npu() { REID_VARIANT=om-fp16 REID_DEVICES=$devices "$@"; }

# 1  The driver shows the chips.
wanted=$(tr ',' '\n' <<<"$CHIPS" | grep -c .)
npu-smi info >"$work/log" 2>&1; healthy=$(grep -cE '\| OK +\|' "$work/log")
[ "$healthy" -ge "$wanted" ] && passed "1  npu-smi info: $healthy chips, health OK" || falls "1  npu-smi info: $healthy of $wanted chips are OK"
: >"$work/log"

# 2 to 4  ATC makes the OMs: floats, uint8 with AIPP, one with a dynamic batch.
number=2
for form in "" --aipp --dynamic-batch; do
  name="$number  python -m model_build compile --batch-sizes $SIZES${form:+ $form}"
  if ! command -v atc >/dev/null; then skipped "$name: no atc here"
  elif python -m model_build compile "$model" --batch-sizes "$SIZES" $form >"$work/log" 2>&1; then passed "$name: $(tail -n 1 "$work/log")"
  else falls "$name"; fi
  number=$((number + 1))
done

# 5  Every OM gives the golden vectors: cosine of at least 0.999.
if python -m model_build verify "$model" >"$work/log" 2>&1 && grep -q '\.om .*ok' "$work/log" && ! grep -q 'FAILED' "$work/log"; then
  passed "5  python -m model_build verify: lowest cosine of an OM $(awk '/\.om /{print $4}' "$work/log" | sort -n | head -n 1)"
else falls "5  python -m model_build verify"; fi

# 6  The guide's table, and its best batch size.
if python -m model_build bench "$model" --variant om-fp16 --chip "${CHIPS%%,*}" --loop "$LOOP" --format json >"$work/bench.json" 2>"$work/log"; then
  figure=$(says 'max((int(l["images_per_s"]), l["batch_size"]) for l in d["lines"])' "$work/bench.json")
  per_s=${figure#(}; per_s=${per_s%%,*}
  [ "$per_s" -ge "$MIN_PER_S" ] && passed "6  python -m model_build bench: (images/s, batch size) $figure" ||
    falls "6  python -m model_build bench: (images/s, batch size) $figure, at least $MIN_PER_S are wanted"
else falls "6  python -m model_build bench"; fi

# 7  Every chip proves itself: golden cosine of at least 0.999.
if on_npu reid doctor --model "$model" --data "$work/none" >"$work/log" 2>&1 && [ "$(grep -o 'ascend:[0-9]*: golden cosine 0.999\|ascend:[0-9]*: golden cosine 1' "$work/log" | sort -u | wc -l)" -eq "$wanted" ]; then
  passed "7  reid doctor: $(grep -o 'ascend:[0-9]*: golden cosine [0-9.]*' "$work/log" | paste -sd ' ')"
else falls "7  reid doctor"; fi

# 8  Real crops give the CPU's vectors within float16.
if [ -z "$crops" ]; then reid demo "$work/demo" >"$work/log" 2>&1; crops=$work/demo/data/query; fi
if reid embed "$crops" --output "$work/cpu.npz" --model "$model" >"$work/log" 2>&1 && on_npu reid embed "$crops" --output "$work/npu.npz" --model "$model" >>"$work/log" 2>&1; then
  figure=$(python - "$work" 2>>"$work/log" <<'PYTHON'
import sys
import numpy as np
a, b = (np.load(f"{sys.argv[1]}/{name}.npz")["vectors"].astype(float) for name in ("cpu", "npu"))
cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
print(f"{len(cosines)} crops, lowest cosine {cosines.min():.6f}, mean {cosines.mean():.6f}")
sys.exit(not cosines.min() >= 0.999)
PYTHON
  ) && passed "8  reid embed, CPU and NPU: $figure" || falls "8  reid embed, CPU and NPU: $figure (at least 0.999 is wanted)"
else falls "8  reid embed"; fi

# 9 and 10 are about a running server.
: >"$work/log"
# Not through the function: $! is to be the server's own id, not a shell's around it.
REID_VARIANT=om-fp16 REID_DEVICES=$devices REID_LOG_LEVEL=warning reid serve --port 0 --model "$model" --data "$work/data" >"$work/log" 2>&1 &
server=$!
python - "$server" "$work/log" "$crops" "$ROUNDS" "$WAIT_S" >"$work/answers" 2>>"$work/log" <<'PYTHON'
"""A worker is killed and comes back; many batches leave the memory of the workers as it was."""
import itertools, os, pathlib, re, signal, sys, time
import httpx

log, crops = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
pid, rounds, wait_s = int(sys.argv[1]), int(sys.argv[4]), float(sys.argv[5])


def until(what):
    started = time.monotonic()
    while not (found := what()):
        if time.monotonic() - started > wait_s:
            raise SystemExit(f"not so after {wait_s:g} s: {what.__doc__}")
        if " Z " in pathlib.Path(f"/proc/{pid}/stat").read_text():
            raise SystemExit("the server has ended")
        time.sleep(0.05)
    return found, time.monotonic() - started


def address():
    """the server listens"""
    return re.search(r"http://[\d.]+:\d+", log.read_text())


http = httpx.Client(base_url=until(address)[0][0], timeout=300)


def workers():
    """Ids of the server's children that hold a chip."""
    found = []
    for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"app.adapters.worker" in (status.parent / "cmdline").read_bytes():
                found.append(int(status.parent.name))
        except OSError:
            pass
    return found


def memory_mb():
    pages = [int(pathlib.Path(f"/proc/{worker}/statm").read_text().split()[1]) for worker in workers()]
    return max(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


def embed():
    http.post("/v1/embeddings", files=pictures).raise_for_status()


def devices():
    return http.get("/v1/stats").json()["devices"].values()


def restarts():
    return sum(device["restarts"] for device in devices())


def ready():
    """every chip is ready"""
    return all(device["state"] == "ready" for device in devices())


until(ready)
found = (path for path in sorted(crops.iterdir()) if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp", ".bmp"))
pictures = [("image", path.read_bytes()) for path in itertools.islice(found, 16)]
embed()
before = restarts()
os.kill(workers()[0], signal.SIGKILL)


def came_back():
    """every chip is ready again after a worker was killed"""
    http.post("/v1/embeddings", files=pictures)  # so that the loss is noticed; it may answer 503
    return restarts() > before and ready()


_, took_s = until(came_back)
print(f"one worker killed, all chips ready again after {took_s:.1f} s")
for _ in range(20):
    embed()
at_first = memory_mb()
for _ in range(rounds):
    embed()
grown = memory_mb() - at_first
print(f"{grown:.1f} MB more in the largest worker after {rounds} requests of {len(pictures)} crops")
sys.exit(grown > 20)
PYTHON
status=$?
first=$(sed -n 1p "$work/answers"); second=$(sed -n 2p "$work/answers")
[ -n "$first" ] && passed "9  kill -9 of a worker: $first" || falls "9  kill -9 of a worker"
[ -n "$second" ] && [ "$status" -eq 0 ] && passed "10 memory: $second" || falls "10 memory: ${second:-not reached} (at most 20 MB are wanted)"

echo "$ok ok, $left_out left out, $failed failed"
[ "$failed" -eq 0 ]
