#!/bin/sh
# Every check that needs no test: one line per check, and what to do about those that fail.
set -u
cd "$(dirname "$0")/.."
bin=.venv/bin
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0

# check NAME REMEDY COMMAND…
check() {
  name=$1 remedy=$2
  shift 2
  if "$@" >"$scratch/output" 2>&1; then
    printf 'ok      %s\n' "$name"
  else
    cat "$scratch/output"
    printf 'FAILED  %s; %s\n' "$name" "$remedy"
    failed=1
  fi
}

compare_stubs() {
  sh scripts/proto.sh "$scratch/stubs" || return
  mkdir "$scratch/present" && cp proto/lucid/v1/*_pb2* "$scratch/present" || return
  diff -r "$scratch/stubs/lucid/v1" "$scratch/present"
}

check_shell() {
  for script in scripts/*.sh; do sh -n "$script" || return; done
  bash -n .ci/run
}

check "ruff check" "make format mends some of it" $bin/ruff check --quiet .
check "ruff format" "run make format" $bin/ruff format --check --quiet --diff .
check "mypy" "types must fit" $bin/mypy
check "import contracts" "docs/architecture.md says who may know whom" $bin/lint-imports
check "buf lint" "see the output" $bin/buf lint
check "buf format" "run make format" $bin/buf format --diff --exit-code
check "buf breaking" "docs/adr/0004 says when breaking is fine; then run make proto-baseline" \
  $bin/buf breaking --against proto/baseline.binpb
check "stubs are those of the .proto files" "run make proto" compare_stubs
check "shell syntax" "see the output" check_shell
exit $failed
