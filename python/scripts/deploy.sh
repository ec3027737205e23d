#!/usr/bin/env bash
# deploy.sh account-services|worker|gateway TAG [INCOMING] - put one group of containers on an image tag, or back where it was.
#
# Runs on the server, in the folder with the compose files and `.env`. Pulls the images, brings the tables up to date,
# replaces the containers one service at a time and waits until each is healthy. If one is not, the group goes back to
# the tag before, and the exit status is 1. The tag in use is written into `.env`, where every other command finds it.
#
# Of the group's images the new and the one before stay on the server; the registry has the others.
#
# One at a time: a second waits until the first has ended. It goes on to its end when whoever started it is gone, as after
# a lost connection: half way, the old and the new release would run side by side. What it says is in deploy.log as well.
#
# INCOMING is a folder with the compose files and deploy.sh of the tag's release. They take the place of those here when
# it is its turn; those of before come back unless the group ends up on the tag. Without it the files stay as they are.
#
# HEALTH_TIMEOUT_S (120)  how long a service may take to become healthy
# TURN_TIMEOUT_S (900)    how long another deployment may take before this one gives up
# COMPOSE                 the compose command; found by itself otherwise
# SKIP_PULL=1             use images that are on the server already, and keep all
set -euo pipefail

readonly COMPOSE_FILE_NAME=docker-compose-account-and-worker.yml
readonly RELEASE_FILES=(docker-compose-db-redis-mq.yml "$COMPOSE_FILE_NAME" deploy.sh)
readonly HEALTH_TIMEOUT_S=${HEALTH_TIMEOUT_S:-120}
readonly TURN_TIMEOUT_S=${TURN_TIMEOUT_S:-900}
readonly LOCK_FILE=.deploy.lock
readonly LOG_FILE=deploy.log
readonly STOP_TIMEOUT_S=30
# The gateway asks the name server every second and tries a new replica within the next.
readonly GATEWAY_SETTLE_S=${GATEWAY_SETTLE_S:-3}

die() {
  echo "deploy: $*" >&2
  exit 1
}

say() {
  echo "deploy: $*"
}

# compose_command: sets `compose`, v2 if the engine has it.
compose_command() {
  if [[ ${COMPOSE:-} ]]; then
    read -ra compose <<<"$COMPOSE"
  elif docker compose version >/dev/null 2>&1; then
    compose=(docker compose)
  elif command -v docker-compose >/dev/null; then
    compose=(docker-compose)
  else
    die "neither 'docker compose' nor 'docker-compose' is installed"
  fi
  compose+=(-f "$COMPOSE_FILE_NAME")
}

# take_turn: returns once no other deployment runs in this folder. Two at once would take each other's containers for
# their own, and one's tag would be lost from `.env`.
take_turn() {
  exec 9>>"$LOCK_FILE"
  flock -n 9 && return
  say "waiting for another deployment to end"
  flock -w "$TURN_TIMEOUT_S" 9 || die "another deployment still runs after $TURN_TIMEOUT_S s; nothing was changed"
}

# move_in FOLDER: its files take the place of those of before, which are kept beside them until this deployment has succeeded.
move_in() {
  local name
  for name in "${RELEASE_FILES[@]}"; do
    [[ ! -f $name ]] || mv "$name" "$name.previous"
    mv "$1/$name" "$name"
  done
}

# put_back: the files that were kept, if any.
put_back() {
  local name
  for name in "${RELEASE_FILES[@]}"; do
    [[ ! -f $name.previous ]] || mv "$name.previous" "$name"
  done
}

# choose_group NAME: sets the group's services, in the order they are replaced, its tag variable, and the one-shot of its
# image that brings the tables up to date.
choose_group() {
  case $1 in
    account-services)
      services=(account-manager celery-worker celery-beat monitor)
      tag_variable=ACCOUNT_SERVICES_TAG migration=migrate ;;
    worker)
      services=(py-worker)
      tag_variable=WORKER_TAG migration=worker-migrate ;;
    gateway)
      services=(gateway)
      tag_variable=GATEWAY_TAG migration= ;;
    *) die "unknown group '$1'; allowed: account-services, worker, gateway" ;;
  esac
}

container_ids() {
  "${compose[@]}" ps -q "$1"
}

# all_healthy IDS: there are containers, and each reports healthy.
all_healthy() {
  local id
  [[ $1 ]] || return 1
  for id in $1; do
    [[ $(docker inspect --format '{{.State.Health.Status}}' "$id") == healthy ]] || return 1
  done
}

# wait_until_healthy SERVICE IDS: of its containers only these count.
wait_until_healthy() {
  local deadline=$((SECONDS + HEALTH_TIMEOUT_S))
  until all_healthy "$2"; do
    if ((SECONDS >= deadline)); then
      say "$1 is not healthy after $HEALTH_TIMEOUT_S s; its last lines:"
      "${compose[@]}" logs --tail 20 "$1" || true
      return 1
    fi
    sleep 1
  done
  say "$1 is healthy"
}

# bring_up TAG SERVICE...: each service on that tag and healthy; stops at the first that is not. `changed` gets those
# whose containers are no longer the ones of before.
bring_up() {
  local service
  export "$tag_variable=$1"
  changed=()
  for service in "${@:2}"; do
    case $service in
      account-manager | celery-worker | py-worker) add_then_remove "$service" || return 1 ;;
      *) replace "$service" || return 1 ;;
    esac
  done
}

# replace SERVICE: for what may be away for a moment, or must not run twice for long.
replace() {
  changed+=("$1")
  up "$1" "$(replicas "$1")" && wait_until_healthy "$1" "$(container_ids "$1")"
}

# add_then_remove SERVICE: for what answers requests or takes tasks, which may be many at once. Requests and tasks go to
# the new containers as well as soon as they are ready, and only then the old ones are told to end. If the new ones
# fail, the old ones never stopped.
add_then_remove() {
  local service=$1 wanted old new
  # One that an interrupted deployment stopped and left would be started again, and pass for new.
  "${compose[@]}" rm -f "$service" || return 1
  old=$(container_ids "$service")
  if [[ -z $old ]]; then
    replace "$service"
    return
  fi
  wanted=$(replicas "$service") || return 1
  up "$service" "$(($(wc -l <<<"$old") + wanted))" --no-recreate || return 1
  new=$(container_ids "$service" | grep -vxF "$old") || return 1
  if wait_until_healthy "$service" "$new"; then
    sleep "$GATEWAY_SETTLE_S"
    changed+=("$service")
    remove "$old"
  else
    remove "$new"
    return 1
  fi
}

up() {
  "${compose[@]}" up -d --no-deps --no-build --scale "$1=$2" "${@:3}" "$1"
}

# replicas SERVICE: how many containers it is to have: the most it has of one image, or 1. Where a deployment was
# interrupted, those of the other image are no wish for more.
replicas() {
  local ids
  ids=$(container_ids "$1") || return 1
  if [[ $ids ]]; then
    xargs docker inspect --format '{{.Config.Image}}' <<<"$ids" | sort | uniq -c | sort -rn | awk 'NR == 1 { print $1 }'
  else
    echo 1
  fi
}

# remove IDS: gracefully; open requests have STOP_TIMEOUT_S to end.
remove() {
  local ids
  mapfile -t ids <<<"$1"
  docker stop --time "$STOP_TIMEOUT_S" "${ids[@]}" >/dev/null && docker rm "${ids[@]}" >/dev/null
}

# tag_in_use: the group's tag in `.env`; nothing while the group has no container, for then there is nothing to go back to.
tag_in_use() {
  [[ -z $(container_ids "${services[0]}") ]] || sed -n "s/^$tag_variable=//p" .env | tail -n 1
}

# migrate: from the new image, whatever the other group is on. Two at the same moment take turns in PostgreSQL.
migrate() {
  [[ $migration ]] || return 0
  say "bringing the tables up to date"
  "${compose[@]}" run --rm "$migration"
}

# remember TAG: whole or not at all, and as secret as it was.
remember() {
  local file
  file=$(realpath .env)
  (umask 077 && { grep -v "^$tag_variable=" "$file" || true; echo "$tag_variable=$1"; } >"$file.new")
  chmod --reference="$file" "$file.new"
  mv "$file.new" "$file"
}

# remove_images TAG PREVIOUS: the group's other ones, or releases would fill the disk. Without a tag before this one, or
# with the same again, nobody knows which one to go back to: all stay. So do those that a container uses.
remove_images() {
  local repository
  [[ $2 && $2 != "$1" ]] || return 0
  repository=$(container_ids "${services[0]}" | xargs docker inspect --format '{{.Config.Image}}' \
    | sed -n '$s/:[^:]*$//p') || return 1
  docker image ls --filter dangling=false --format '{{.Tag}}' "$repository" \
    | { grep -vxF -e "$1" -e "$2" || true; } | sed "s|^|$repository:|" | xargs -r docker image rm
}

roll_back() {
  local group=$1 previous=$2
  put_back
  [[ $previous ]] || die "there is no earlier tag to go back to; $group is left as it is"
  say "going back to $previous"
  bring_up "$previous" "${changed[@]}" || die "$previous is not healthy either: a person must look at $group now"
  die "$group was put back on $previous; the new tag is not in use"
}

# keep: what comes in, to the log, and out for as long as somebody listens. With /dev/null it always has somewhere to
# write and never ends early, for whoever writes to it would end too.
keep() {
  (umask 077 && exec tee --append --output-error=warn-nopipe "$LOG_FILE" /dev/null) || true
}

# deploy GROUP TAG [INCOMING]: when it is its turn. Whatever ends it early, the files are again those of the tags in use.
deploy() {
  local group=$1 tag=$2 incoming=${3:-} previous
  take_turn
  # First those that an interrupted deployment kept: the tag in use is still the one they belong to.
  put_back
  trap put_back EXIT
  [[ ! $incoming ]] || move_in "$incoming"
  previous=$(tag_in_use)
  export "$tag_variable=$tag"

  say "$group: ${previous:-nothing} -> $tag, $(date -u +%FT%TZ)"
  [[ ${SKIP_PULL:-} ]] || "${compose[@]}" pull "${services[@]}" || die "could not pull $tag; nothing was changed"
  migrate || die "the migration failed; the services were not touched"
  bring_up "$tag" "${services[@]}" || roll_back "$group" "$previous"
  remember "$tag"
  rm -f "${RELEASE_FILES[@]/%/.previous}"
  [[ ${SKIP_PULL:-} ]] || remove_images "$tag" "$previous" || say "not every image of an earlier release could be removed"
  say "$group is on $tag"
}

# deploy_to_the_end GROUP TAG [INCOMING]: errors stay errors, the status is that of `deploy`, and nobody needs to listen.
deploy_to_the_end() {
  trap '' HUP
  { { deploy "$@" </dev/null 3>&- | keep; } 2>&1 >&3 | keep >&2; } 3>&1
}

main() {
  (($# == 2 || $# == 3)) || die "usage: deploy.sh account-services|worker|gateway TAG [INCOMING]"
  local group=$1 tag=$2 folder=${3:-.}
  [[ $tag =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$ ]] || die "'$tag' is not an image tag"
  choose_group "$group"
  [[ -f $folder/$COMPOSE_FILE_NAME ]] || die "no $COMPOSE_FILE_NAME in $(realpath "$folder")"
  [[ -f .env ]] || die "no .env in $PWD; copy .env.example and fill it in"
  compose_command
  # Nothing is built here, but docker-compose 1.29 refuses every command while the build context is not there.
  mkdir -p python
  deploy_to_the_end "$@"
}

# On one line, which is read as a whole: somebody may write over this file meanwhile.
main "$@"; exit
