#!/usr/bin/env bash
# Starts the Python Worker against .env, and waits until ready.
# With the argument `status` it only shows what runs. Pids and logs are in ./logs.
# shellcheck source=python/scripts/services.sh
. "$(dirname "${BASH_SOURCE[0]}")/python/scripts/services.sh"
main start worker "$@"
