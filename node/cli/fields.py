"""Every field that commands print with --json, with its meaning: the one table.

`docs/cli.md` is made from it, and a test compares it with what the commands print.
"""

Fields = dict[str, str]

SESSION: Fields = {
    "session_id": "ID of the session, as a UUID",
    "state": "`recording`, `interrupted`, `complete` or `deleted`",
    "kind": "`file`, `directory`, `stream` or `terminal`; `unspecified` once deleted",
    "name": "what the user called it",
    "tags": "the user's words for it, an array",
    "source": "path of the file or directory",
    "command": "command and arguments of a terminal session, an array",
    "user": "user who recorded it",
    "uid": "number of that user, as the kernel told it",
    "host": "machine on which it was recorded",
    "tty": "terminal on which it was recorded",
    "started": "time, ISO 8601 in UTC",
    "ended": "time; null while it is not complete",
    "last_change": "time of the last change",
    "chunks": "sealed chunks",
    "plaintext_bytes": "bytes of the source that are sealed",
    "stored_bytes": "bytes of the sealed chunks on disk",
    "lost_bytes": "bytes of the source that are known to be lost",
    "gaps": "places where something may be missing",
    "root": "root of the Merkle tree over the chunks, in hexadecimal",
    "checkpoints": "signed checkpoints",
    "held": "is it under legal hold?",
    "retain_until": "time after which the node erases it; null keeps it",
    "reason": "why it is interrupted; else empty",
    "exit_status": "of the recorded command; null if there is none",
    "manifest_hash": "BLAKE3 of the manifest, in hexadecimal; empty while it is not complete",
    "device": "Ed25519 public key of the device that recorded it, in hexadecimal",
    "readable": "can this node read it?",
    "behind": "have witnesses seen more of it than this store, an old copy, holds?",
    "incidents": "what was found wrong with it: an array of {`time`, `what`}",
    "owner": "Ed25519 public key of the owner who shared it, in hexadecimal; empty if it is this owner's",
    "shared_by": "ID of the node that shared it; empty if it is this owner's",
    "adopted": "was it recorded by another device? It is read and verified here, and not continued",
}

RECORDED: Fields = {
    "session_id": SESSION["session_id"],
    "state": SESSION["state"],
    "root": SESSION["root"],
    "chunks": SESSION["chunks"],
    "plaintext_bytes": SESSION["plaintext_bytes"],
    "stored_bytes": SESSION["stored_bytes"],
    "replicas": "complete copies of the whole session on nodes of others, with a head that leads there",
}

_FINDINGS = (
    "what is wrong, an array of {`chunk`, `what`, `healed`}; `chunk` is null if it concerns none;"
    " `healed`: it was brought back from a peer"
)

PEER: Fields = {
    "peer_id": "ID of the node; empty while nobody was met at the address",
    "owner_id": "Ed25519 public key of its owner, in hexadecimal; empty while nobody was met",
    "address": "multiaddr where it was reached last, or says that it listens",
    "connected": "can it be called now?",
    "last_seen": "time at which it answered last; null: never",
    "latency_ms": "round trip of the last call; null if there was none",
    "software": "name and version of its software",
    "protocol": "version of the protocol between both; 0 while it is not known",
    "trouble": "why it is not connected; empty if it is",
}

ONIONS = (
    "an array of {`address`, `role`, `published`, `since`, `until`}; `role` is `next`, `current` or `old`;"
    " times are ISO 8601 in UTC or null"
)

_TOR = {
    "phase": "`stopped`, `starting`, `bootstrapping` or `ready`",
    "percent": "of the bootstrap",
    "summary": "what Tor does now, in its words",
    "version": "of Tor",
    "trouble": "why nothing goes through Tor; empty if it is ready",
    "hint": "what to do about it",
    "tunnel": "host and port of Tor's HTTP tunnel, which leads to onion services; empty if Tor is not ready",
    "onions": ONIONS,
    "reached": "when the node last reached itself through the network, ISO 8601 in UTC; null: never",
    "reach_ms": "milliseconds that this took, the connection included",
    "reach_trouble": "why the last try failed; empty if it did not",
}

COMMAND_FIELDS: dict[str, Fields] = {
    "init": {
        "peer_id": "ID of the node",
        "owner_id": "Ed25519 public key of the owner, in hexadecimal",
        "network": "network that the node belongs to",
        "home": "where the node lives",
        "recovery_phrase": "the 24 words, shown this once",
    },
    "restore": {
        "peer_id": "ID of the new node",
        "owner_id": "Ed25519 public key of the owner, in hexadecimal",
        "network": "network that the node belongs to",
        "home": "where the node lives",
        "peers": "peers that answered",
        "heads": "devices of the owner whose heads were found",
        "sessions": "sessions that the heads tell of",
        "restored": "of these, brought back now",
        "known": "of these, there before, or deleted",
        "problems": "what could not be brought back, and which peers lied, an array of texts",
    },
    "id": {
        "peer_id": "ID of the node",
        "owner_id": "Ed25519 public key of the owner, in hexadecimal",
        "device": "Ed25519 public key of the node, in hexadecimal",
        "network": "network that the node belongs to",
        "home": "where the node lives",
    },
    "status": {
        "version": "version of the daemon",
        "peer_id": "ID of the node",
        "owner_id": "Ed25519 public key of the owner, in hexadecimal",
        "network": "network that the node belongs to",
        "started": "time at which the daemon started, ISO 8601 in UTC",
        "pid": "process ID of the daemon",
        "serving": "can it record, and reach others if it is to?",
        "problems": "what is wrong, an array of texts",
        "blob_bytes": "exact sum of the lengths of all sealed chunks on disk",
        "journal_bytes": "exact sum of the lengths of all journals on disk",
        "index_bytes": "what the index takes on disk",
        "quota_bytes": "most bytes that blobs and journals may take; 0: no limit",
        "disk_free_bytes": "free bytes on the disk of the store",
        "sessions_recording": "sessions being recorded",
        "sessions_interrupted": "sessions that wait for `session recover`",
        "sessions_complete": "complete sessions",
        "metrics_address": "loopback address that serves metrics",
        "replicas_wanted": "copies of single chunks that other nodes are to hold; 0 without peers",
        "replicas_held": "copies of single chunks that other nodes hold",
        "transport": "`tor` or `loopback`",
        "tor": "how it stands in Tor, as `onion show` tells; null if it does without",
        "listen": "multiaddr where other nodes reach this one, its ID included; empty: nowhere",
        "peers_connected": "peers that can be called now",
        "peers_known": "configured addresses of peers",
        "held_bytes": "bytes of chunks that are held for others; part of `blob_bytes`",
    },
    "doctor": {
        "home": "where the node lives",
        "healthy": "is nothing wrong?",
        "checks": "an array of {`name`, `state`, `what`, `hint`}; `state` is `ok`, `note` or `wrong`",
        "rebuilt": "what `--rebuild` did, an array of texts",
    },
    "onion show": _TOR,
    "onion check": _TOR,
    "onion rotate": {"onions": ONIONS},
    "passphrase change": {"peer_id": "ID of the node", "home": "where the node lives"},
    "service install": {"unit": "path of the unit file", "commands": "what to run next, an array"},
    "service uninstall": {
        "unit": "path of the unit file that was removed",
        "commands": "what to run next, an array",
    },
    "session record": RECORDED,
    "session list": {"sessions": "an array of sessions, the newest last; fields as for `session show`"},
    "session show": SESSION
    | {
        "policy": "control policy, as signed; null once deleted",
        "manifest": "manifest, as signed; null while it is not complete",
    },
    "session verify": {
        "session_id": SESSION["session_id"],
        "state": SESSION["state"],
        "valid": "is everything there, and as it was recorded?",
        "root": SESSION["root"],
        "chunks": "chunks that were checked",
        "plaintext_bytes": "bytes of the source in them",
        "checkpoints": "signed checkpoints that were checked",
        "checkpoint_time": "time of the last signed checkpoint",
        "gaps": SESSION["gaps"],
        "sealed": "true if chunks were checked against what was signed, but no key of this node opens them",
        "findings": _FINDINGS,
    },
    "session verify --remote": {
        "session_id": SESSION["session_id"],
        "valid": "did every holder that was asked show what it is to hold?",
        "leaves": "stretches of 4 KiB that were shown and are right",
        "holders": "holders that were asked",
        "findings": _FINDINGS,
    },
    "session get": {
        "session_id": SESSION["session_id"],
        "output": "path that was written",
        "plaintext_bytes": "bytes that were written",
        "findings": _FINDINGS,
    },
    "session export": {
        "session_id": SESSION["session_id"],
        "output": "path that was written",
        "plaintext_bytes": "bytes that were written",
        "findings": _FINDINGS,
    },
    "replicas": {
        "session_id": SESSION["session_id"],
        "wanted": "how many copies of each chunk there are to be",
        "held": "copies of single chunks that other nodes hold",
        "pending": "copies of single chunks, and of heads, that are missing",
        "heads": "nodes that keep a head which leads to the session as it is: what `restore` finds",
        "replicas": "an array of {`chunk`, `replica`, `peer_id`, `held`, `stored`, `audited`, `until`,"
        " `trouble`}: when the holder stored it, when it passed an audit last, when its lease ends,"
        " what is wrong",
    },
    "session recover": {"finalized": "an array of the sessions that were finalized, as in `session list`"},
    "session recover --resume": RECORDED,
    "session share": {
        "session_id": SESSION["session_id"],
        "peer_id": "ID of the node that reads it now",
    },
    "session delete": {"session_id": SESSION["session_id"], "freed_bytes": "bytes that were freed on disk"},
    "session hold": SESSION,
    "session release": SESSION,
    "peers": {"peers": "an array of {" + ", ".join(f"`{name}`" for name in PEER) + "}; see `ping`"},
    "ping": PEER | {"round_trip_ms": "time that the call took; null if there was no answer"},
    "grpc-token": {
        "header": "metadata to send with every call: name, colon, base64 of the token",
        "address": "host and port where to call",
        "token_ttl_s": "seconds that the token holds",
    },
    "session prove": {
        "session_id": SESSION["session_id"],
        "output": "path that was written",
        "bundle_bytes": "its length",
    },
    "verify bundle": {
        "verdict": "`consistent, unattested` or `consistent, attested by …`, in words",
        "session_id": SESSION["session_id"],
        "network": "network that the signatures are of",
        "owner_id": "Ed25519 public key of the owner, in hexadecimal",
        "device": "peer ID of the device that recorded it",
        "complete": "is the recording complete, with its manifest?",
        "chunks": "chunks that were signed",
        "root": SESSION["root"],
        "checkpoint": "number of the checkpoint that the bundle stands on",
        "checkpoint_time": "time that the device claims for it, ISO 8601 in UTC",
        "manifest_hash": "BLAKE3 of the manifest, in hexadecimal; empty while it is not complete",
        "gaps": "chunks before which something may be missing, an array; null while it is not complete",
        "attestations": "an array of {`witness`, `time`, `trusted`}",
        "chunk": "the chunk that is shown, or null: {`index`, `chunk_id`, `bytes`, `flags`, `first_byte`,"
        " `end_byte`, `plaintext_bytes`, `plaintext_blake3`}; the last two are null unless it is revealed",
        "recording": "what `--recording` found, in words; null without it",
        "proven": "what is proven, an array of sentences",
        "not_proven": "what is not, an array of sentences",
    },
}
"""Fields by command. `run`, `session play` and `completion` print no JSON document."""
