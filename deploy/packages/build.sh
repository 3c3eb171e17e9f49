#!/usr/bin/env bash
# deploy/packages/build.sh BINARY OUT: the deb and the rpm around a binary, by nfpm.
set -euo pipefail

binary=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

STAGE=$(mktemp -d)
trap 'rm -rf "$STAGE"' EXIT
VERSION=$("$binary" --version | cut -d ' ' -f 2)
ARCH=${ARCH:-amd64}

cp "$binary" "$STAGE/tidings"
"$binary" man --to "$STAGE/man"
gzip -9n "$STAGE"/man/*.1
mkdir "$STAGE/completions"
"$binary" completions bash >"$STAGE/completions/tidings.bash"
"$binary" completions zsh >"$STAGE/completions/_tidings"
"$binary" completions fish >"$STAGE/completions/tidings.fish"
# nfpm itself replaces variables in some places only.
sed "s#\${STAGE}#$STAGE#; s#\${VERSION}#$VERSION#; s#\${ARCH}#$ARCH#" deploy/packages/nfpm.yaml >"$STAGE/nfpm.yaml"
for format in deb rpm; do
  "${NFPM:-nfpm}" package --config "$STAGE/nfpm.yaml" --packager "$format" --target "$out"
done
