#!/bin/sh
# Generates the Python stubs of proto/lucid/v1 into DIR (default: beside the .proto files).
set -eu
cd "$(dirname "$0")/.."
bin=${VENV:-.venv}/bin
out=${1:-proto}
mkdir -p "$out"
"$bin/python" -m grpc_tools.protoc -I proto \
  --plugin=protoc-gen-mypy="$bin/protoc-gen-mypy" --plugin=protoc-gen-mypy_grpc="$bin/protoc-gen-mypy_grpc" \
  --python_out="$out" --mypy_out="quiet:$out" --grpc_python_out="$out" --mypy_grpc_out="quiet:$out" \
  proto/lucid/v1/*.proto
# Messages without a service need no stub.
for stub in "$out"/lucid/v1/*_pb2_grpc.py; do
  grep -q '^class .*Stub' "$stub" || rm -f "$stub" "${stub%.py}.pyi"
done
