#!/usr/bin/env bash
# Writes the Go code in tidingsv1 anew from proto/; with --check, says whether it is up to date.
#
#   generate.sh [--check] TOOLS
#
# TOOLS is a directory for the plugins, which are built there from their Go modules. `buf` must be in PATH.
set -euo pipefail

check=
[ "${1:-}" = --check ] && { check=1; shift; }
tools=$(mkdir -p "${1:?usage: $0 [--check] TOOLS}" && cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")"

# plugin NAME MODULE VERSION: in a directory of its own for each version.
plugin() {
  local home=$tools/$1-$3
  [ -x "$home/$1" ] || GOBIN=$home go install "$2@$3"
  PATH=$home:$PATH
}
plugin protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go v1.36.12
plugin protoc-gen-go-grpc google.golang.org/grpc/cmd/protoc-gen-go-grpc v1.6.2

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
buf generate --output "$fresh"
if [ -n "$check" ]; then
  diff -r "$fresh/tidingsv1" tidingsv1 || { echo "not what proto/ says: run clients/go/generate.sh" >&2; exit 1; }
else
  rm -rf tidingsv1
  mv "$fresh/tidingsv1" tidingsv1
fi
