#!/bin/bash
# Install aclruntime into an environment: from a wheel, else compiled from source. It is never downloaded: it is on no
# package index, and what runs on the NPU is the operator's choice.
# Usage: install-aclruntime.sh cpu|ascend WHEELS SOURCE [PYTHON]      (PYTHON: the environment's; else the image's)
set -euo pipefail
device=$1 wheels=$2 source=$3 python=${4:-/opt/reid/bin/python}

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

enter_cann() { # called without arguments, since a sourced script sees them
  local root=${ASCEND_ROOT:-/usr/local/Ascend} file
  set +eu # set_env.sh is written without either in mind
  for file in ascend-toolkit/set_env.sh cann/set_env.sh; do
    # shellcheck source=/dev/null
    [ -r "$root/$file" ] && . "$root/$file"
  done
  set -eu
  unset PYTHONPATH # set_env.sh put CANN's own packages there
}

compile() {
  local lock
  lock=$(dirname "$0")/../requirements-aclruntime.lock
  if ! command -v g++ >/dev/null; then
    command -v apt-get >/dev/null || refuse "aclruntime is to be compiled, but there is no g++ here; give a wheel"
    apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends g++
  fi
  "$python" -m venv "$work/tools"
  "$work/tools/bin/python" -m pip install --quiet --require-hashes --only-binary :all: -r "$lock"
  cp -r "$1" "$work/source" # setup.py writes beside itself
  "$work/tools/bin/python" -m pip wheel --no-deps --no-build-isolation --wheel-dir "$work/wheel" "$work/source"
}

if compgen -G "$wheels/aclruntime-*.whl" >/dev/null; then
  install_from "$wheels" ||
    refuse "no aclruntime wheel in wheels/ fits this image ($(describe)): $(cd "$wheels" && echo aclruntime-*.whl)"
elif folder=$(source_folder); then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  enter_cann # before the trap, which would take what set_env.sh passes over for a failure
  set -E
  trap 'refuse "aclruntime could not be compiled from the source folder; what failed stands above"' ERR
  compile "$folder"
  trap - ERR
  install_from "$work/wheel"
else
  refuse "DEVICE is ascend, but there is no aclruntime: put its wheel ($(describe)) into wheels/, or give the folder" \
    "with its setup.py by --build-context aclruntime-src=FOLDER; wheels/README.md says where either comes from"
fi
