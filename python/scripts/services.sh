# shellcheck shell=bash
# What the four start and stop scripts have in common. They source this file and
# call main with the action, the group and their own arguments.
#
# A service has a pid file and a log in ./logs. A pid counts only while its process really is that service of this
# checkout (its command and its working directory are compared), so no foreign process is ever signalled.

set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python_dir=$(cd -P "$repository/python" && pwd)
logs=$repository/logs
start_timeout_s=${START_TIMEOUT_S:-90}
stop_timeout_s=${STOP_TIMEOUT_S:-30}
celery_app=tradingflow.account_manager.celery_worker
celery_node=account

say() { printf '%s\n' "$*"; }

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

services_of() {
  case $1 in
    account) echo account_manager celery_worker celery_beat monitor ;;
    worker) echo py_worker ;;
    *) fail "unknown group $1" ;;
  esac
}

# The words of its command line by which a service is known.
mark_of() {
  case $1 in
    account_manager | py_worker | monitor) echo "tradingflow.$1.server" ;;
    celery_worker) echo "$celery_app worker" ;;
    celery_beat) echo "$celery_app beat" ;;
  esac
}

find_python() {
  if [ -x "$repository/.venv/bin/python" ]; then
    python=$repository/.venv/bin/python
  else
    python=$(command -v "${PYTHON:-python3}") || fail "python3 is not on PATH; what to do: install Python 3.11 or newer"
  fi
  "$python" -c 'import sys; from importlib.util import find_spec as has
sys.exit(not all(map(has, ("celery", "fastapi", "pydantic_settings", "sqlalchemy"))))' ||
    fail "$python lacks the packages of TradingFlow; what to do: pip install -r python/requirements.txt"
}

require_settings() {
  [ -f "$repository/.env" ] || [ -f "$python_dir/.env" ] ||
    fail "there is no .env; what to do: cp .env.example .env, then fill it in"
}

# Sets pid when the service runs; fails when it does not.
find_pid() {
  local command
  pid=$(cat "$logs/$1.pid" 2>/dev/null) && [ -n "$pid" ] || return 1
  command=$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") || return 1
  [[ $command == *"$(mark_of "$1")"* ]] && [ "$(readlink "/proc/$pid/cwd")" = "$python_dir" ]
}

launch() {
  local service=$1 command
  case $service in
    account_manager | py_worker | monitor) command=("$python" -m "tradingflow.$service.server") ;;
    celery_worker) command=("$python" -m celery -A "$celery_app" worker -n "$celery_node@%h" --loglevel=INFO) ;;
    celery_beat) command=("$python" -m celery -A "$celery_app" beat --pidfile= -s "$logs/celerybeat-schedule") ;;
  esac
  cd "$python_dir"
  setsid "${command[@]}" </dev/null >>"$logs/$service.log" 2>&1 9>&- &
  echo $! >"$logs/$service.pid"
  cd "$repository"
}

is_ready() {
  case $1 in
    account_manager | py_worker | monitor)
      says_ready "$1" 2>/dev/null
      ;;
    celery_worker)
      (cd "$python_dir" && "$python" -m celery -A "$celery_app" inspect ping --timeout 2 \
        -d "$celery_node@$(hostname)" >/dev/null 2>&1)
      ;;
    celery_beat) true ;; # beat answers to nobody; that it runs is checked beside this
  esac
}

# What the service answers to GET /health/ready, headers and all.
readiness() (
  exec 3<>"/dev/tcp/${address[$1]%:*}/${address[$1]##*:}"
  printf 'GET /health/ready HTTP/1.0\r\nHost: %s\r\n\r\n' "${address[$1]}" >&3
  timeout 5 cat <&3
)

says_ready() {
  local answer
  answer=$(readiness "$1") && [[ ${answer%%$'\r'*} == HTTP/*" 200 "* ]]
}

wait_until_ready() {
  local service=$1 deadline=$((SECONDS + start_timeout_s))
  until find_pid "$service" && is_ready "$service"; do
    kill -0 "$(cat "$logs/$service.pid")" 2>/dev/null || return 1
    [ $SECONDS -lt $deadline ] || return 1
    sleep 0.2
  done
}

# The port must be free before a server starts: else we would take another program's answer for its own.
require_free_port() {
  local host=${address[$1]%:*} port=${address[$1]##*:}
  if (exec 3<>"/dev/tcp/$host/$port") 2>/dev/null; then
    fail "port $port of $1 is taken by another program; what to do: end it, or change ${1^^}_PORT in .env"
  fi
}

read_addresses() {
  local name host port lines
  lines=$(cd "$python_dir" && "$python" scripts/preflight.py "$group") || exit 1
  declare -gA address=()
  while read -r name host port; do address[$name]=$host:$port; done <<<"$lines"
}

migrate() {
  say "bringing the database to the newest schema"
  (cd "$python_dir" && "$python" -m alembic upgrade head) >>"$logs/migrate.log" 2>&1 || {
    tail -n 20 "$logs/migrate.log" >&2
    fail "the migrations failed; the whole log is logs/migrate.log"
  }
}

start_group() {
  local service missing=()
  require_settings
  for service in $(services_of "$group"); do
    if find_pid "$service"; then say "$service is running already (pid $pid)"; else missing+=("$service"); fi
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  find_python
  read_addresses
  for service in "${missing[@]}"; do
    [ -z "${address[$service]:-}" ] || require_free_port "$service"
  done
  [ "$group" != account ] || migrate
  for service in "${missing[@]}"; do launch "$service"; done
  for service in "${missing[@]}"; do
    if wait_until_ready "$service"; then
      say "$service is ready (pid $(cat "$logs/$service.pid")) ${address[$service]:+http://${address[$service]}}"
    else
      give_up "$service" "${missing[@]}"
    fi
  done
}

give_up() {
  local failed=$1 service
  shift
  printf '%s\n' "$failed did not become ready; the last lines of logs/$failed.log:" >&2
  tail -n 20 "$logs/$failed.log" >&2
  [ -z "${address[$failed]:-}" ] || readiness "$failed" 2>/dev/null | sed -n 's/^{/readiness: {/p' >&2 || true
  for service in "$@"; do stop_service "$service"; done
  fail "what to do: read the log above, correct .env, and start again"
}

is_gone() { [ ! -d "/proc/$1" ] || grep -q '^State:[[:space:]]*[ZX]' "/proc/$1/status" 2>/dev/null; }

stop_service() {
  local deadline=$((SECONDS + stop_timeout_s))
  find_pid "$1" || {
    rm -f "$logs/$1.pid"
    return 0
  }
  kill -TERM "$pid"
  until is_gone "$pid"; do
    if [ $SECONDS -ge $deadline ]; then
      kill -KILL -- "-$pid"
      until is_gone "$pid"; do sleep 0.05; done
      rm -f "$logs/$1.pid"
      printf '%s\n' "$1 (pid $pid) did not stop within $stop_timeout_s s and was killed" >&2
      return 0
    fi
    sleep 0.1
  done
  rm -f "$logs/$1.pid"
  say "$1 stopped (pid $pid)"
}

stop_group() {
  local service any=no
  for service in $(services_of "$group"); do
    if find_pid "$service"; then any=yes; fi
    stop_service "$service"
  done
  [ $any = yes ] || say "nothing of the $group services is running"
}

# Exits 0 when all services of the group run, 3 otherwise (as an init script does).
show_status() {
  local service code=0
  for service in $(services_of "$group"); do
    if find_pid "$service"; then
      say "$service runs (pid $pid)"
    else
      say "$service does not run"
      code=3
    fi
  done
  return $code
}

# One start or stop at a time in this checkout.
take_turn() {
  mkdir -p "$logs"
  exec 9>"$logs/.lock"
  flock 9
}

main() {
  local action=$1 wish=${3:-}
  group=$2
  case $wish in
    "") ;;
    status)
      show_status
      return
      ;;
    *) fail "usage: $(basename "$0") [status]" ;;
  esac
  take_turn
  "${action}_group"
}
