#!/bin/bash
# Refuse a base image that cannot become what was asked for: one sentence, before anything is downloaded.
# Usage: check-base.sh cpu|ascend
set -euo pipefail
device=${1:-}
root=${ASCEND_ROOT:-/usr/local/Ascend} # tests put a folder of theirs

refuse() {
  echo "error: $*" >&2
  exit 1
}

case "$device" in
  cpu | ascend) ;;
  *) refuse "DEVICE is '$device'; it is cpu or ascend" ;;
esac

command -v python3 >/dev/null || refuse "the base image has no python3; the service needs Python 3.11 or newer"
version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  refuse "the base image has Python $version; the service needs 3.11 or newer: take a tag that ends in -py3.11"

if [ "$device" = ascend ]; then
  for file in ascend-toolkit/set_env.sh cann/set_env.sh nnrt/set_env.sh; do
    [ -r "$root/$file" ] && exit 0
  done
  refuse "DEVICE is ascend, but the base image has no CANN (no set_env.sh below $root): give BASE a CANN image, such as" \
    "ascendai/cann:8.1.rc1-310p-ubuntu22.04-py3.11"
fi
