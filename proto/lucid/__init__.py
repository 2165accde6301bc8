"""The wire of Lucid: generated protobuf messages and gRPC stubs."""
