"""What holds for every connection between nodes, before anybody has said who he is.

How many connections there may be, how long one may be silent, how large a message and its headers may be, and
which variables must be gone before gRPC is loaded. What a call may take: `node/rpc/limits.py`.
"""

from node.rpc.limits import MAX_MESSAGE_BYTES

# What gRPC takes proxies from: a daemon that must reach nothing but Tor obeys none of them.
PROXY_VARIABLES = (
    "grpc_proxy",
    "https_proxy",
    "http_proxy",
    "all_proxy",
    "no_grpc_proxy",
    "no_proxy",
    "grpc_address_http_proxy",
    "grpc_address_http_proxy_enabled_addresses",
)
MAX_CONNECTIONS = 4096
MAX_STREAMS = 128
MAX_HEADER_BYTES = 16 << 10
HANDSHAKE_TIMEOUT_MS = 10_000
IDLE_TIMEOUT_MS = 120_000
_COMMON = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_HEADER_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_HEADER_BYTES),
)
SERVER_OPTIONS = (
    *_COMMON,
    ("grpc.so_reuseport", 0),
    ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_TIMEOUT_MS),
    ("grpc.max_connection_idle_ms", IDLE_TIMEOUT_MS),
)
CLIENT_OPTIONS = (
    *_COMMON,
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.use_local_subchannel_pool", 1),
)
