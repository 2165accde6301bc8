"""The daemon: unlocks the keys, opens the store, composes the node, serves it, and ends well.

Order of a start: home checked → configuration → keys unlocked → home locked → store opened → node composed
and recovered → sockets → ready. SIGTERM and SIGINT end it well: nothing new is accepted, recordings are
synced and interrupted, everything is closed; a second signal ends it at once, which the store survives.
"""

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernel.errors import Conflict
from kernel.grants import is_granted
from kernel.sealing import compute_x25519_public
from kernel.uninterrupted import end_task
from lucid.v1.identity_pb2 import ROLE_RECORD
from node.adapters import SystemClock, ThreadOffload
from node.compose import Node, compose
from node.config import NodeConfig, load_config
from node.data.server import DataServer
from node.home import Home, check_initialised, check_private, lock_home
from node.identity.keystore import Keystore, open_keystore
from node.identity.peer_keys import PeerKeys
from node.identity.unlock import get_passphrase
from node.logs import Logger, make_logger
from node.memory import give_back, keep_buffers
from node.metrics import MetricsServer, NodeMetrics
from node.notify import Notifier
from node.opening import WrapFiles, keep_files, open_home
from node.ports import NodePorts
from node.transport.options import PROXY_VARIABLES
from node.work import list_work, open_to_peers
from session.access import RecorderKeys

if TYPE_CHECKING:
    from node.rpc.peering import Peering
    from node.transport.tor.transport import TorTransport

SHUTDOWN_TIMEOUT_S = 60.0
UMASK = 0o077


def run_daemon(
    home: Home, environment: Mapping[str, str], flags: Mapping[str, str | None], passphrase_file: Path | None
) -> int:
    """Runs the node of a home until a signal ends it; returns the exit code.

    Raises:
        LucidError: it cannot start.
    """
    harden_process()
    check_initialised(home)
    check_private(home)
    config = load_config(home, environment, flags)
    keystore = open_keystore(home.keystore, get_passphrase(passphrase_file, environment))
    check_network(config, keystore)
    log = make_logger(config.log_level, config.log_format)
    keys = get_recorder_keys(keystore, SystemClock().wall_ns() // 10**9)
    identity = keystore.identity
    peer_keys = PeerKeys(identity.network, keystore.device, identity.grants, identity.head_grant)
    with lock_home(home):
        asyncio.run(serve(config, keys, peer_keys, log, Notifier(environment)))
    return 0


def harden_process() -> None:
    """No core dumps, no proxies, no permissions for others, as many descriptors as allowed, memory kept."""
    keep_buffers()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for name in list(os.environ):
        if name.lower() in PROXY_VARIABLES:
            del os.environ[name]
    # What gRPC writes by itself is no line of our log, and tells addresses; errors come with each call.
    os.environ["GRPC_VERBOSITY"] = "NONE"
    os.umask(UMASK)


def check_network(config: NodeConfig, keystore: Keystore) -> None:
    """Checks that the node was set up for the network of the configuration.

    Raises:
        Conflict: it was set up for another one.
    """
    if keystore.identity.network.name != config.network:
        raise Conflict(
            f"the node was set up for the network {keystore.identity.network.name}, not for {config.network}",
            hint="Correct the setting `network`, or set up another home for the other network.",
        )


def get_recorder_keys(keystore: Keystore, now_s: int) -> RecorderKeys:
    """The keys with which this device records, and, if it may, reads.

    Raises:
        Conflict: its owner does not let it record at `now_s` (Unix seconds).
    """
    identity = keystore.identity
    if not is_granted(identity.grant_list, identity.device, ROLE_RECORD, now_s):
        raise Conflict(
            "the owner of this node does not let it record",
            hint="Its grant has ended or was withdrawn: set the node up anew.",
        )
    return RecorderKeys(
        network=identity.network,
        device=keystore.device.identity,
        owner=identity.owner,
        reader=identity.grant_list.seal_public_key,
        grants=identity.grants,
        # The box key opens what other owners share with this node.
        reading={
            compute_x25519_public(private): private
            for private in (*keystore.seal_keys.values(), keystore.device.box)
        },
        others={grant.device for grant in identity.grant_list.grants if ROLE_RECORD in grant.roles},
    )


async def serve(
    config: NodeConfig,
    keys: RecorderKeys,
    peer_keys: PeerKeys,
    log: Logger,
    notifier: Notifier,
    *,
    wrap_files: WrapFiles = keep_files,
) -> None:
    """Serves a node until a signal comes. Whoever calls holds the home's lock.

    Args:
        config: of the node.
        keys: with which it records.
        peer_keys: with which it meets others.
        log: where it logs.
        notifier: to the service manager.
        wrap_files: see `open_home`.

    Raises:
        LucidError: it cannot start.
    """
    stopped = _watch_signals(log)
    metrics = NodeMetrics()
    async with open_home(config, metrics, wrap_files=wrap_files) as opened:
        for what in opened.store.damaged:
            log.warning("damaged", what=what)
        tor = _make_tor(config, opened.ports, log)
        peering = _make_peering(config, peer_keys, opened.ports, metrics, log, tor)
        node = compose(keys, config, opened.ports, metrics, log, peering, publisher=tor)
        node.pid = os.getpid()
        await node.start()
        async with _running(tor) as tor_ended, _serving(node):
            notifier.send("READY=1")
            status = await node.status()
            log.info(
                "ready",
                peer_id=status.peer_id,
                pid=node.pid,
                metrics=node.metrics_address,
                listen=status.listen,
            )
            for problem in status.problems:
                log.warning("problem", what=problem)
            await _run_until(stopped, [*list_work(node), tor_ended, *_list_signs_of_life(node, notifier)])
            log.info("stopping")
            notifier.send("STOPPING=1")
            node.health.stopping = True
    log.info("stopped")


def _make_tor(config: NodeConfig, ports: NodePorts, log: Logger) -> "TorTransport | None":
    """The transport over Tor, if any node is to be reached over it."""
    if not config.uses_tor:
        return None
    from node.transport.tor.transport import make_tor_transport

    return make_tor_transport(config, ports.clock, ports.entropy, log)


def _make_peering(
    config: NodeConfig,
    keys: PeerKeys,
    ports: NodePorts,
    metrics: NodeMetrics,
    log: Logger,
    tor: "TorTransport | None",
) -> "Peering":
    # gRPC is loaded here, after the process has been hardened.
    from node.rpc.peering import Peering
    from node.transport.loopback import LoopbackTransport

    return Peering(
        keys,
        tor or LoopbackTransport(),
        ports.clock,
        ports.entropy,
        ports.offload_io,
        ports.records,
        metrics,
        log,
        software=f"lucid-node {version('lucid-network')}",
        peers=config.peers,
        hosting_for=config.hosting_for,
    )


@asynccontextmanager
async def _serving(node: Node) -> AsyncIterator[None]:
    """All sockets of a node. They close in reverse order: recordings end before the control API does."""
    from node.control.server import ControlServer

    config = node.config
    async with AsyncExitStack() as stack:
        metrics = MetricsServer(node.metrics, node.refresh_metrics)
        await metrics.start(config.metrics_listen)
        stack.push_async_callback(metrics.stop)
        node.metrics_address = metrics.address
        control = ControlServer(node, config.home.control_socket)
        await control.start()
        stack.push_async_callback(control.stop)
        await open_to_peers(node)
        stack.push_async_callback(node.peering.stop)
        stack.push_async_callback(node.stop)
        paths = [(config.home.data_socket, False)]
        if config.record_socket:
            paths.append((Path(config.record_socket), True))
        for path, may_only_record in paths:
            data = DataServer(
                node,
                path,
                may_only_record=may_only_record,
                make_offload=_make_transfer_offload,
                on_idle=give_back,
            )
            await data.start()
            stack.push_async_callback(data.stop)
        try:
            yield
        finally:
            node.health.stopping = True


def _make_transfer_offload() -> ThreadOffload:
    return ThreadOffload("transfer", 1)


@asynccontextmanager
async def _running(tor: "TorTransport | None") -> AsyncIterator[Coroutine[Any, Any, None]]:
    """Keeps Tor until everything that is served over it has ended; gives what fails if keeping it does."""
    keeping = asyncio.create_task(asyncio.Event().wait() if tor is None else tor.run())

    async def wait() -> None:
        await asyncio.shield(keeping)

    try:
        yield wait()
    finally:
        await end_task(keeping)


async def _run_until(stopped: asyncio.Event, work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Does the node's work until it is to stop; fails if that does."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in work]
        await stopped.wait()
        for task in tasks:
            task.cancel()


def _list_signs_of_life(node: Node, notifier: Notifier) -> list[Coroutine[Any, Any, None]]:
    return [_show_life(node, notifier)] if notifier.watchdog_s else []


async def _show_life(node: Node, notifier: Notifier) -> None:
    while True:
        notifier.send("WATCHDOG=1")
        await node.ports.clock.sleep(notifier.watchdog_s)


def _watch_signals(log: Logger) -> asyncio.Event:
    """An event that the first signal sets; the second one ends the process."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stopped.is_set():
            log.warning("ended at once", signal=signal.Signals(number).name)
            os._exit(128 + number)
        stopped.set()
        loop.call_later(SHUTDOWN_TIMEOUT_S, _give_up, log)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stopped


def _give_up(log: Logger) -> None:
    log.error("shutting down took too long; ended at once")
    os._exit(1)
