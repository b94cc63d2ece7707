#!/usr/bin/env bash
# Build the image $1 with whichever builder works here. BASE_IMAGE and PIP_INDEX_URL are handed to the Dockerfile.
set -euo pipefail
cd "$(dirname "$0")/.."
arguments=(--tag "$1")
for name in BASE_IMAGE PIP_INDEX_URL; do
  [ -z "${!name:-}" ] || arguments+=(--build-arg "$name=${!name}")
done
if docker info >/dev/null 2>&1; then
  docker build "${arguments[@]}" .
elif command -v podman >/dev/null; then
  podman build --format docker "${arguments[@]}" . # the format that has a HEALTHCHECK
elif command -v buildah >/dev/null; then
  buildah build --format docker "${arguments[@]}" .
else
  echo "no image can be built here: there is no running docker, no podman and no buildah" >&2
  exit 1
fi
