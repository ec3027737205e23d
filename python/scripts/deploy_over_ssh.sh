#!/usr/bin/env bash
# deploy_over_ssh.sh account-services|worker|gateway TAG - copy the compose files and deploy.sh to the server and run it there.
#
# DEPLOY_TARGET       user@host[:port] of the server
# DEPLOY_FOLDER       the folder there that holds `.env`
# DEPLOY_SSH_KEY      the private key that may sign in
# DEPLOY_KNOWN_HOSTS  the server's host key line, so that nobody else is trusted
set -euo pipefail

die() {
  echo "deploy_over_ssh: $*" >&2
  exit 1
}

(($# == 2)) || die "usage: deploy_over_ssh.sh account-services|worker|gateway TAG"
for name in DEPLOY_TARGET DEPLOY_FOLDER DEPLOY_SSH_KEY DEPLOY_KNOWN_HOSTS; do
  [[ ${!name:-} ]] || die "$name is not set"
done
[[ $1 =~ ^[a-z-]+$ && $2 =~ ^[A-Za-z0-9_.-]+$ ]] || die "'$1' '$2' is not a group and a tag"
[[ $DEPLOY_FOLDER =~ ^[A-Za-z0-9_./-]+$ ]] || die "DEPLOY_FOLDER may hold letters, digits and _ . / - only"

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
keys=$(mktemp -d)
trap 'rm -rf "$keys"' EXIT
umask 077
printf '%s\n' "$DEPLOY_SSH_KEY" >"$keys/key"
printf '%s\n' "$DEPLOY_KNOWN_HOSTS" >"$keys/known_hosts"

host=${DEPLOY_TARGET%:*} port=22
[[ $DEPLOY_TARGET == *:* ]] && port=${DEPLOY_TARGET##*:}
options=(-i "$keys/key" -o "UserKnownHostsFile=$keys/known_hosts" -o StrictHostKeyChecking=yes -o BatchMode=yes
  -o ConnectTimeout=15 -o ServerAliveInterval=15)

# Beside the files in use, which belong to the deployment whose turn it is, and under a name of its own.
release=$(mktemp -d "$keys/incoming.XXXXXXXXXX")
incoming=$(basename "$release")
cp -p "$root/docker-compose-db-redis-mq.yml" "$root/docker-compose-account-and-worker.yml" \
  "$root/python/scripts/deploy.sh" "$release"
scp -q -r -P "$port" "${options[@]}" "$release" "$host:$DEPLOY_FOLDER/"
ssh -p "$port" "${options[@]}" "$host" "cd '$DEPLOY_FOLDER' || exit
  bash '$incoming/deploy.sh' '$1' '$2' '$incoming'; status=\$?
  rm -rf '$incoming'; exit \$status"
