#!/bin/sh
# Replaces the onion service of a node by a new one; for cron and systemd timers.
#
# Usage: scripts/rotate_onion_keys.sh [--home DIR] [--grace TIME]
# LUCID_NODE names the program, if it is not `lucid-node`.
#
# Exit code: 0 replaced, and peers can find the new one; 75 not now, try again later: no daemon runs, Tor is not
# ready, or the service before is still in its grace time; else that of `lucid-node onion rotate`.
set -u

usage() { echo "usage: $0 [--home DIR] [--grace TIME]" >&2; exit 2; }
grace=
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || usage
  case $1 in
    --home) LUCID_HOME=$2; export LUCID_HOME ;;
    --grace) grace=$2 ;;
    *) usage ;;
  esac
  shift 2
done

said=$(${LUCID_NODE:-lucid-node} onion rotate ${grace:+--grace "$grace"} 2>&1)
code=$?
case $code:$said in
  0:*) printf 'onion service replaced\n%s\n' "$said" ;;
  6:* | *"still served for"* | *"being published already"*)
    printf 'not now: %s\n' "$said" >&2
    code=75
    ;;
  *) printf 'not replaced: %s\n' "$said" >&2 ;;
esac
exit "$code"
