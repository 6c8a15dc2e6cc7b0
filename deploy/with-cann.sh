#!/bin/bash
# Run a command with CANN's environment where the image has CANN, and as it is where it has not.
# Usage: with-cann.sh serve|build COMMAND...
#
# bash, and no `set -u`: set_env.sh is written for bash and reads variables that nobody set.
mode=$1
command=("${@:2}")
set -- # a sourced script sees these, and might take the command's options for its own
root=${ASCEND_ROOT:-/usr/local/Ascend} # tests put a folder of theirs

# The driver is the host's, mounted at start. Its folders come first, so that set_env.sh puts its own before them.
driver=
for folder in driver/lib64 driver/lib64/common driver/lib64/driver; do
  [ -d "$root/$folder" ] && driver="$driver$root/$folder:"
done
LD_LIBRARY_PATH=$driver$LD_LIBRARY_PATH

# Up to CANN 8.3, from 8.5, and the run-time package without ATC. An image may have both of the first two.
cann=
for file in ascend-toolkit/set_env.sh cann/set_env.sh nnrt/set_env.sh; do
  if [ -r "$root/$file" ]; then
    # shellcheck source=/dev/null
    . "$root/$file"
    cann=$root/$file
  fi
done

# Without the empty entries that stand for the working directory, and without the toolkit's stubs of the driver: a
# server that finds those fails with ACL error 100039.
kept=
while IFS= read -r -d : folder; do
  case "$folder" in
    "" | */devlib | */devlib/* | */stub | */stub/*) ;;
    *) kept="$kept${kept:+:}$folder" ;;
  esac
done <<<"$LD_LIBRARY_PATH:"

if [ "$mode" = build ] && [ -n "$cann" ] && [ -z "$driver" ]; then
  # ATC needs the driver's library to be there and never calls it. Last, so that a real one wins.
  kept="$kept${kept:+:}${ASCEND_TOOLKIT_HOME:-$root/ascend-toolkit/latest}/$(uname -m)-linux/devlib"
fi

if [ -n "$kept" ]; then export LD_LIBRARY_PATH=$kept; else unset LD_LIBRARY_PATH; fi
if [ "$mode" = serve ]; then
  unset PYTHONPATH # CANN's packages are for ATC's Python; ours has numpy 2 and its own aclruntime
fi
if [ -n "$cann" ]; then
  export ASCEND_PROCESS_LOG_PATH=${ASCEND_PROCESS_LOG_PATH:-/tmp/ascend/log}
fi

exec "${command[@]}"
