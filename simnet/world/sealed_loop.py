"""What a loop must not do in a simulated world."""

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn


class SimulationError(Exception):
    """A run that cannot go on, or must not count."""


def _refuse(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise SimulationError(f"loop.{name}: there is no such thing in a simulated world")

    return refuse


class SealedLoop(asyncio.AbstractEventLoop):
    """A loop without sockets, processes, signals and handlers of its own."""

    add_reader: Any = _refuse("add_reader")
    add_signal_handler: Any = _refuse("add_signal_handler")
    add_writer: Any = _refuse("add_writer")
    connect_accepted_socket: Any = _refuse("connect_accepted_socket")
    connect_read_pipe: Any = _refuse("connect_read_pipe")
    connect_write_pipe: Any = _refuse("connect_write_pipe")
    create_connection: Any = _refuse("create_connection")
    create_datagram_endpoint: Any = _refuse("create_datagram_endpoint")
    create_server: Any = _refuse("create_server")
    create_unix_connection: Any = _refuse("create_unix_connection")
    create_unix_server: Any = _refuse("create_unix_server")
    get_exception_handler: Any = _refuse("get_exception_handler")
    get_task_factory: Any = _refuse("get_task_factory")
    getaddrinfo: Any = _refuse("getaddrinfo")
    getnameinfo: Any = _refuse("getnameinfo")
    remove_reader: Any = _refuse("remove_reader")
    remove_signal_handler: Any = _refuse("remove_signal_handler")
    remove_writer: Any = _refuse("remove_writer")
    run_forever: Any = _refuse("run_forever")
    sendfile: Any = _refuse("sendfile")
    set_exception_handler: Any = _refuse("set_exception_handler")
    set_task_factory: Any = _refuse("set_task_factory")
    sock_accept: Any = _refuse("sock_accept")
    sock_connect: Any = _refuse("sock_connect")
    sock_recv: Any = _refuse("sock_recv")
    sock_recv_into: Any = _refuse("sock_recv_into")
    sock_recvfrom: Any = _refuse("sock_recvfrom")
    sock_sendall: Any = _refuse("sock_sendall")
    sock_sendto: Any = _refuse("sock_sendto")
    start_tls: Any = _refuse("start_tls")
    stop: Any = _refuse("stop")
    subprocess_exec: Any = _refuse("subprocess_exec")
    subprocess_shell: Any = _refuse("subprocess_shell")
    set_default_executor: Any = _refuse("set_default_executor")
    sock_recvfrom_into: Any = _refuse("sock_recvfrom_into")
    sock_sendfile: Any = _refuse("sock_sendfile")
