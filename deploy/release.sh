#!/usr/bin/env bash
# deploy/release.sh TRIPLE ARCH CPU WHEEL OUT: everything of a release for one platform.
#
#   deploy/release.sh x86_64-unknown-linux-musl amd64 x64 manylinux_2_17_x86_64.musllinux_1_1_x86_64 dist
#
# Builds the static program, and with it the archive, deb, rpm, wheel, npm packages and SBOM. Needs the target of
# rustup, musl-gcc as CC, nfpm (NFPM), Node and Python. With PROGRAM it takes that program and compiles nothing.
set -euo pipefail

triple=$1 ARCH=$2 cpu=$3 wheel=$4
mkdir -p "$5"
out=$(realpath "$5")
export ARCH
cd "$(dirname "${BASH_SOURCE[0]}")/.."

program=${PROGRAM:-}
if [ -z "$program" ]; then
  cargo build --release --locked --bin tidings --target "$triple"
  program=${CARGO_TARGET_DIR:-target}/$triple/release/tidings
fi
version=$("$program" --version | cut -d ' ' -f 2)

folder=tidings-$version-$triple
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/$folder"/{man,completions}
cp "$program" README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE deploy/systemd/tidings.service "$stage/$folder"
"$program" man --to "$stage/$folder/man"
for shell in bash zsh fish; do "$program" completions "$shell" >"$stage/$folder/completions/tidings.$shell"; done
tar --create --gzip --sort=name --owner=0 --group=0 --mtime=@0 --directory "$stage" --file "$out/$folder.tar.gz" "$folder"

deploy/packages/build.sh "$program" "$out"
python3 deploy/pypi/build.py "$program" "$wheel" "$out"
node deploy/npm/build.mjs "$program" "$cpu" "$out"
python3 deploy/sbom.py "$triple" >"$out/tidings-$version-$triple.cdx.json"
(cd "$out" && sha256sum -- * >"$stage/SHA256SUMS" && mv "$stage/SHA256SUMS" "SHA256SUMS-$ARCH")
