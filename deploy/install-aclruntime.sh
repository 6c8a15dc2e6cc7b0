#!/bin/bash
# Install aclruntime into our environment: from a wheel, else compiled from source. It is never downloaded: it is on no
# package index, and what runs on the NPU is the operator's choice.
# Usage: install-aclruntime.sh cpu|ascend WHEELS SOURCE
set -euo pipefail
device=$1 wheels=$2 source=$3
python=${REID_PYTHON:-/opt/reid/bin/python} # tests put another

[ "$device" = ascend ] || exit 0

refuse() {
  echo "error: $*" >&2
  exit 1
}

install_from() {
  "$python" -m pip install --quiet --no-deps --no-index --find-links "$1" aclruntime
}

describe() { # such as "cp311 on aarch64": what a wheel has to be made for
  "$python" -c 'import platform, sys; print("cp%d%d on %s" % (*sys.version_info[:2], platform.machine()))'
}

# The folder that holds setup.py, or the repository that it is a part of.
source_folder() {
  local folder
  for folder in "$source" "$source/ais-bench_workload/tool/ais_bench/backend" "$source/ait/components/benchmark/backend"; do
    [ -f "$folder/setup.py" ] && echo "$folder" && return
  done
  return 1
}

compile() {
  local root=${ASCEND_ROOT:-/usr/local/Ascend} file
  if ! command -v g++ >/dev/null; then
    command -v apt-get >/dev/null || refuse "aclruntime is to be compiled, but the base image has no g++; give a wheel"
    apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends g++
  fi
  set +eu # written without either in mind
  for file in "$root/ascend-toolkit/set_env.sh" "$root/cann/set_env.sh"; do
    # shellcheck source=/dev/null
    [ -r "$file" ] && . "$file"
  done
  set -eu
  unset PYTHONPATH # set_env.sh put CANN's own packages there
  "$python" -m venv /tmp/aclruntime
  /tmp/aclruntime/bin/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements-aclruntime.lock
  cp -r "$1" /tmp/aclruntime-src # setup.py writes beside itself
  /tmp/aclruntime/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir /tmp/aclruntime-wheel /tmp/aclruntime-src
}

if compgen -G "$wheels/aclruntime-*.whl" >/dev/null; then
  install_from "$wheels" ||
    refuse "no aclruntime wheel in wheels/ fits this image ($(describe)): $(cd "$wheels" && echo aclruntime-*.whl)"
elif folder=$(source_folder); then
  set -E
  trap 'refuse "aclruntime could not be compiled from the source folder; what failed stands above"' ERR
  compile "$folder"
  trap - ERR
  install_from /tmp/aclruntime-wheel
else
  refuse "DEVICE is ascend, but there is no aclruntime: put its wheel ($(describe)) into wheels/, or give the folder" \
    "with its setup.py by --build-context aclruntime-src=FOLDER; wheels/README.md says where either comes from"
fi
