#!/usr/bin/env bash
# Build one target of env/Containerfile with the engine that is here: env/image.sh TARGET [FLAVOUR OF TORCH]
set -euo pipefail
cd "$(dirname "$0")/.."
target=$1 torch=${2:-cpu}

options=(--file env/Containerfile --target "$target" --build-arg "TORCH=$torch" --tag "embedkit:$target")
for argument in DEBIAN_BASE JDK_BASE; do
    [ -z "${!argument:-}" ] || options+=(--build-arg "$argument=${!argument}")
done
[ -z "${PIP_CONFIG_FILE:-}" ] || options+=(--secret "id=pip.conf,src=$PIP_CONFIG_FILE")

if command -v docker >/dev/null; then
    DOCKER_BUILDKIT=1 exec docker build "${options[@]}" .
elif command -v podman >/dev/null; then
    exec podman build --format docker "${options[@]}" .
elif command -v buildah >/dev/null; then
    exec buildah bud --format docker "${options[@]}" .
fi
echo "image: docker, podman or buildah is needed, and none was found" >&2
exit 1
