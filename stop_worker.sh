#!/usr/bin/env bash
# Stops the Python Worker gracefully, and verifies it.
# With the argument `status` it only shows what runs. Pids and logs are in ./logs.
# shellcheck source=python/scripts/services.sh
. "$(dirname "${BASH_SOURCE[0]}")/python/scripts/services.sh"
main stop worker "$@"
