# One file for x86_64 and aarch64, for a server without an NPU and for an Atlas host; docs/docker.md explains it.
#
#   docker build --tag reid-service:cpu .
#   docker build --tag reid-service:ascend --build-arg DEVICE=ascend --build-arg BASE=ascendai/cann:8.1.rc1-310p-ubuntu22.04-py3.11 .
#
# DEVICE=ascend wants a BASE with CANN, and aclruntime: a wheel in wheels/, or its source folder, given with
# --build-context aclruntime-src=FOLDER. The driver stays on the host and is mounted. No syntax line: BuildKit's own
# front end knows all that is used here, and the line would have it fetch another.

ARG BASE=python:3.11-slim-bookworm

# What --build-context puts another folder in the place of. Not empty, since not every builder can copy nothing.
FROM scratch AS aclruntime-src
COPY wheels/README.md /


# Has pip and, where aclruntime is compiled, a compiler. Nothing but /opt/reid leaves it.
FROM ${BASE} AS builder
ARG DEVICE=cpu
ARG PIP_INDEX_URL
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# hadolint ignore=DL3002
USER 0:0
WORKDIR /src
# A CANN image has its own Python packages on PYTHONPATH, and pip would take them for ours.
ENV PYTHONPATH="" PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY deploy/check-base.sh ./deploy/
RUN deploy/check-base.sh "${DEVICE}"
# --only-binary: a package without a wheel for this machine is refused here, before it asks for a compiler.
COPY requirements.lock ./
RUN python3 -m venv /opt/reid \
    && /opt/reid/bin/python -m pip install --only-binary :all: --require-hashes -r requirements.lock
COPY requirements-aclruntime.lock ./
COPY deploy/install-aclruntime.sh ./deploy/
COPY wheels/ /wheels/
COPY --from=aclruntime-src / /aclruntime-src/
RUN deploy/install-aclruntime.sh "${DEVICE}" /wheels /aclruntime-src
COPY pyproject.toml README.md LICENSE ./
COPY model_build/ ./model_build/
COPY app/ ./app/
RUN /opt/reid/bin/python -m pip install --no-deps --no-build-isolation .


# For `python -m model_build`: ONNX in, OM out, with the ATC of the CANN image. Never serves.
FROM builder AS model-build
ARG TORCH_INDEX=""
COPY requirements-build.lock ./
COPY deploy/install-torch.sh ./deploy/
RUN /opt/reid/bin/python -m pip install --only-binary :all: --require-hashes -r requirements-build.lock \
    && deploy/install-torch.sh /wheels "${TORCH_INDEX}"
COPY --chmod=0755 deploy/with-cann.sh /opt/reid/
# ATC writes caches into the home folder and the working directory. ONNX Runtime's official wheels report to their maker
# over the network unless they are told not to before they start [onnxruntime, Privacy.md].
ENV HOME=/tmp ORT_DISABLE_TELEMETRY=1
WORKDIR /tmp
USER 10001:10001
# -E: CANN's PYTHONPATH is for ATC's Python, and is left to it untouched.
ENTRYPOINT ["/opt/reid/with-cann.sh", "build", "/opt/reid/bin/python", "-E", "-m", "model_build"]
CMD ["--help"]


# What serving does not need: the build backend, and pip. (The base's own Python may have a pip; it is not ours to remove.)
FROM builder AS trimmed
RUN /opt/reid/bin/python -m pip uninstall --yes \
    editables hatchling pathspec pluggy setuptools tomlkit trove-classifiers pip


FROM ${BASE} AS serve
LABEL org.opencontainers.image.title="reid-service" org.opencontainers.image.licenses="Apache-2.0"
USER 0:0
RUN groupadd --gid 10001 reid \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin reid \
    && install --directory --owner=10001 --group=10001 --mode=0700 /data /snapshots
COPY --from=trimmed /opt/reid/ /opt/reid/
COPY --chmod=0755 deploy/with-cann.sh deploy/health.py /opt/reid/
COPY --chmod=0755 deploy/reid /usr/local/bin/
# CANN writes logs into the home folder; /tmp is the one place that is writable under a read-only root. ONNX Runtime's
# official wheels report to their maker over the network unless they are told not to before they start [its Privacy.md].
ENV HOME=/tmp REID_DATA_DIR=/data REID_SNAPSHOT_DIR=/snapshots ORT_DISABLE_TELEMETRY=1
WORKDIR /
USER 10001:10001
EXPOSE 8000
# Ready, not merely alive: Docker restarts nothing for this status, it tells people and `service_healthy`. Where a
# scheduler kills what is unhealthy, put `livez` behind the command: a server that waits for its NPU is not to be killed.
HEALTHCHECK --interval=15s --timeout=5s --start-period=300s --retries=3 \
    CMD ["/opt/reid/bin/python", "-I", "/opt/reid/health.py", "readyz"]
# A CANN image has an entry point of its own; ours is in /usr/local/bin/reid, so that `docker exec` passes through it too.
ENTRYPOINT []
CMD ["reid", "serve"]
