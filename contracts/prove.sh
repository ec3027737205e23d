#!/bin/sh
# Proves the vault: invariants by random play, gas against the router alone, static analysis.
# One JSON object a line on standard output, progress on standard error; exits 1 when a figure is missed.
# RUNS and DEPTH size the random play (256 runs of 500 calls), SEED repeats it, STATIC=0 leaves slither out.
set -eu
cd "$(dirname "$0")"
export RUNS="${RUNS:-256}" DEPTH="${DEPTH:-500}" SEED="${SEED:-127}" STATIC="${STATIC:-1}"

if [ ! -x node_modules/.bin/forge ]; then
    npm ci --silent >&2
fi
if [ "$STATIC" = 1 ] && [ ! -x .forge/slither/bin/slither ]; then
    echo "installing slither" >&2
    python3 -m venv .forge/slither
    .forge/slither/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-slither.txt >&2
fi
exec node prove.mjs
