#!/bin/sh
# Looks at a node's way through Tor from end to end, a line for each step, and stops at the first that fails:
#
#   daemon → Tor runs → it is in its network → the onion service can be found → a fresh call reaches it
#
# Usage: scripts/test_tor_connectivity.sh [--home DIR]
# LUCID_NODE names the program, if it is not `lucid-node`.
#
# Exit code: 0 all is well; 10 no daemon answers; 11 the node does not use Tor, or has no onion service; 12 Tor does
# not run; 13 it is not in its network; 14 the service is not published; 15 it is not reached; 2 wrong usage.
set -u

usage() { echo "usage: $0 [--home DIR]" >&2; exit 2; }
case $# in
  0) ;;
  2) [ "$1" = --home ] || usage; LUCID_HOME=$2; export LUCID_HOME ;;
  *) usage ;;
esac
scratch=$(mktemp -d) || exit 2
trap 'rm -rf "$scratch"' EXIT

node() { ${LUCID_NODE:-lucid-node} "$@" --json >"$scratch/said" 2>"$scratch/error"; }

# A value of what the node said last: a Python expression over the document d, of `said` or `error`.
get() { python3 -c 'import json, sys; d = json.load(open(sys.argv[2])); print(eval(sys.argv[1]))' "$1" "$scratch/${2:-said}"; }
error() { get '"{message}. {hint}".format(**d["error"])' error; }

ok() { printf 'ok      %s\n' "$*"; }
failed() {
  code=$1
  shift
  printf 'FAILED  %s\n' "$*"
  exit "$code"
}

node status || [ -s "$scratch/said" ] || failed 10 "daemon: $(error)"
ok "daemon: version $(get 'd["version"]'), process $(get 'd["pid"]')"
get '"\n".join("        problem: " + one for one in d["problems"])' | sed '/^$/d'

node onion show || [ -s "$scratch/said" ] || failed 11 "Tor: $(error)"
service=$(get '" ".join(one["address"] for one in d["onions"] if one["role"] == "current")')
[ -n "$service" ] || failed 11 "Tor: the node has no onion service; set listen to onion"
why=$(get '(d["trouble"] + " " + d["hint"]).strip() or d["summary"]')
case $(get 'd["phase"]') in
  stopped | starting) failed 12 "Tor does not run: $why" ;;
esac
ok "Tor runs: version $(get 'd["version"]')"
[ "$(get 'd["phase"]')" = ready ] || failed 13 "Tor is not in its network: $(get 'd["percent"]') %: $why"
ok "Tor is in its network: tunnel $(get 'd["tunnel"]')"
[ "$(get 'any(one["published"] for one in d["onions"] if one["role"] == "current")')" = True ] ||
  failed 14 "the onion service cannot be found yet: $service"
ok "the onion service can be found: $service"

node onion check || failed 15 "the onion service is not reached: $(get 'd["reach_trouble"]' 2>/dev/null || error)"
ok "a fresh call reached it in $(get 'round(d["reach_ms"])') ms"
