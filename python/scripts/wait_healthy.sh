#!/usr/bin/env bash
# wait_healthy.sh [PROJECT] - until every container of a compose project is healthy and its one-shots ended well.
#
# TIMEOUT_S (120)  when to give up; then the containers that are not healthy are named and the exit status is 1
set -euo pipefail

readonly PROJECT=${1:-${COMPOSE_PROJECT_NAME:-tradingflow}}
readonly TIMEOUT_S=${TIMEOUT_S:-120}

# states: one line a container: name, state, exit code, health (none where it has no check).
states() {
  local ids
  mapfile -t ids < <(docker ps --all --quiet --filter "label=com.docker.compose.project=$PROJECT")
  ((${#ids[@]})) || return 0
  docker inspect --format \
    '{{.Name}} {{.State.Status}} {{.State.ExitCode}} {{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}' \
    "${ids[@]}"
}

# not_well: the containers that are neither healthy nor a one-shot that ended with status 0.
not_well() {
  awk '!($2 == "exited" && $3 == 0) && !($2 == "running" && $4 != "starting" && $4 != "unhealthy")'
}

deadline=$((SECONDS + TIMEOUT_S))
while true; do
  all=$(states)
  bad=$(not_well <<<"$all")
  [[ $all && -z ${bad//[[:space:]]/} ]] && break
  if ((SECONDS >= deadline)); then
    echo "wait_healthy: project '$PROJECT' is not healthy after $TIMEOUT_S s" >&2
    echo "${bad:-no containers}" >&2
    exit 1
  fi
  sleep 0.5
done
echo "wait_healthy: $(wc -l <<<"$all") containers of '$PROJECT' are well"
