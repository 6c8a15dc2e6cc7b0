#!/bin/bash
# Install PyTorch into the build image: from a wheel, else from an index that was named, else not at all. There is no
# default, since the usual index answers some machines with gigabytes of CUDA, and only `export` needs it.
# Usage: install-torch.sh WHEELS [INDEX]      (in the folder with pyproject.toml, which says the version)
set -euo pipefail
wheels=$1 index=${2:-}
python=${REID_PYTHON:-/opt/reid/bin/python} # tests put another
version=$(sed -n 's/.*"torch==\([^"]*\)".*/\1/p' pyproject.toml)

# --no-deps: what it requires is in requirements-build.lock.
if compgen -G "$wheels/torch-*.whl" >/dev/null; then
  "$python" -m pip install --no-deps --no-index --find-links "$wheels" "torch==$version"
elif [ -n "$index" ]; then
  "$python" -m pip install --no-deps --only-binary :all: --index-url "$index" "torch==$version"
else
  echo "no PyTorch in this image: compile, verify and bench work; export and all want a wheel in wheels/ or TORCH_INDEX"
fi
