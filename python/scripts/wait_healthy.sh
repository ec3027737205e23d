#!/usr/bin/env bash
# wait_healthy.sh [PROJECT] - until every container of a compose project is healthy and its one-shots ended well.
#
# Without PROJECT it is the one that compose would take in this folder: COMPOSE_PROJECT_NAME of the environment, else of
# `.env` here, else the folder's name.
#
# TIMEOUT_S (120)  when to give up; then the containers that are not healthy are named and the exit status is 1
set -euo pipefail

# name_in_settings: COMPOSE_PROJECT_NAME as compose reads it from `.env`: the last one counts, `export`, quotes, a comment
# behind the value and Windows' line ends are allowed.
name_in_settings() {
  [[ -f .env ]] || return 0
  sed -nE "s/\r\$//; s/^[[:space:]]*(export[[:space:]]+)?COMPOSE_PROJECT_NAME[[:space:]]*=[[:space:]]*//p" .env |
    tail -n 1 | sed -E "s/^'([^']*)'.*/\1/; t; s/^\"([^\"]*)\".*/\1/; t; s/^#.*//; s/[[:space:]]+#.*//; s/[[:space:]]+\$//"
}

# project_name: set but empty in the environment is no name, and hides the one in `.env`.
project_name() {
  local name=${COMPOSE_PROJECT_NAME-$(name_in_settings)}
  [[ $name ]] || name=$(basename "$(pwd -P)")
  tr '[:upper:]' '[:lower:]' <<<"$name" | tr -cd 'a-z0-9_-'
}

PROJECT=${1:-$(project_name)}
readonly PROJECT TIMEOUT_S=${TIMEOUT_S:-120}

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
