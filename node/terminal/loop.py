"""The loop of a recorded command: one poll over keys, output, the daemon and signals.

Rules:
- Output goes to the user before anything else is done with it.
- A slow daemon slows the command, once the link has no room; a lost one does so for 30 s at most. Then the
  policy
  counts: `stop` hangs the command up and kills it KILL_S later; `continue` lets it go on, warns, and lets go
  of what finds no room until the daemon is back.
- SIGTERM and SIGHUP go to the command. Shells ignore SIGTERM: one that still runs HANG_UP_S later is hung up.
- When standard input ends, the command's does: a pipe is closed; a pty gets its EOF character, when it has
  read what came before (twice for a partial line).
- Input is recorded only if asked for, and never while the terminal does not echo: that is how passwords are
  typed.
"""

import select
import signal
import time

from node.client.config import OnRecordingFailure
from node.client.link import RecordingLink
from node.client.polling import to_milliseconds, write_all
from node.terminal.cast import Cast
from node.terminal.child import Child
from node.terminal.signals import SignalPipe
from node.terminal.user_terminal import UserTerminal
from session.asciicast import MAX_EVENT_BYTES

KILL_S = 5.0
HANG_UP_S = 5.0
_DRAIN_S = 0.5
_EOF_RETRY_S = 0.05
_RESERVE_BYTES = 512 << 10
"""Room that output leaves for the other events."""
_MAX_PENDING_BYTES = 64 << 10
_MAX_PIPE_BYTES = 1 << 20
"""More than the command left in its pipes when it ended: others write there, and may never stop."""
_FORWARDED = {signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT}
_FROM_TERMINAL = {signal.SIGINT, signal.SIGQUIT}


class TerminalLoop:
    """Serves a running command until it has ended.

    Attributes:
        was_stopped: the command was ended because it could not be recorded.
    """

    def __init__(
        self,
        child: Child,
        terminal: UserTerminal,
        signals: SignalPipe,
        cast: Cast,
        link: RecordingLink | None,
        policy: OnRecordingFailure,
        *,
        records_input: bool,
    ) -> None:
        self.was_stopped = False
        self._child, self._terminal, self._signals = child, terminal, signals
        self._cast, self._link, self._policy = cast, link, policy
        self._records_input = records_input and link is not None
        self._size = terminal.get_size()
        self._exit_status: int | None = None
        self._drainable_bytes = _MAX_PIPE_BYTES
        self._pending = b""
        self._has_stdin = True
        self._eofs = 0
        self._ends_line = True
        self._lost_outputs: set[int] = set()
        self._has_warned_of_wait = self._has_warned_of_loss = False
        self._timers: dict[str, float] = {}

    def run(self) -> int:
        """Exit status of the command, when it has ended and all of its output is through."""
        while self._exit_status is None or self._child.outputs:
            self._check_link()
            ready = self._poll()
            for descriptor in list(self._child.outputs):
                if descriptor in ready:
                    self._on_output(descriptor)
            if 0 in ready and self._has_stdin:
                self._on_input()
            self._write_input()
            if self._link:
                self._link.pump(ready.get(self._link.fileno() or -1, 0))
            if self._signals.fileno() in ready:
                for number in self._signals.take():
                    self._on_signal(number)
            self._on_time()
        return self._exit_status

    # Waiting

    def _has_room(self) -> bool:
        return self._link is None or self._link.is_letting_go or self._link.room >= _RESERVE_BYTES

    def _poll(self) -> dict[int, int]:
        has_room = self._has_room()
        interests = {self._signals.fileno(): select.POLLIN}
        if (
            self._has_stdin
            and len(self._pending) < _MAX_PENDING_BYTES
            and (has_room or not self._records_input)
        ):
            interests[0] = select.POLLIN
        for descriptor in self._child.outputs if has_room else ():
            interests[descriptor] = select.POLLIN
        if self._pending and self._child.input is not None:
            interests[self._child.input] = interests.get(self._child.input, 0) | select.POLLOUT
        timeouts = [moment - time.monotonic() for moment in self._timers.values()]
        if self._link:
            if (connection := self._link.fileno()) is not None:
                interests[connection] = self._link.events()
            if (timeout_s := self._link.timeout_s()) is not None:
                timeouts.append(timeout_s)
        is_draining = self._exit_status is not None and has_room
        if is_draining:
            timeouts.append(_DRAIN_S if self._child.has_pty else 0.0)
        poll = select.poll()
        for descriptor, events in interests.items():
            poll.register(descriptor, events)
        ready = dict(poll.poll(to_milliseconds(max(min(timeouts), 0.0)) if timeouts else None))
        if is_draining and not any(descriptor in ready for descriptor in self._child.outputs):
            for descriptor in list(self._child.outputs):
                self._child.close_output(descriptor)
        return ready

    # Output and input

    def _on_output(self, descriptor: int) -> None:
        own = self._child.outputs[descriptor]
        data = self._child.read(descriptor, MAX_EVENT_BYTES)
        if not data:
            return
        if self._exit_status is not None and not self._child.has_pty:
            self._drainable_bytes -= len(data)
            if self._drainable_bytes < 0:
                self._child.close_output(descriptor)
        if own not in self._lost_outputs:
            try:
                write_all(own, data)
            except OSError:
                self._on_lost_output(descriptor, own)
        self._cast.add_output(own, data)

    def _on_lost_output(self, descriptor: int, own: int) -> None:
        """Whoever reads our output has gone: so has whoever reads the command's."""
        self._lost_outputs.add(own)
        if self._child.has_pty:
            self._child.hang_up()
        else:
            self._child.close_output(descriptor)

    def _on_input(self) -> None:
        try:
            data = self._terminal.read()
        except BlockingIOError:
            return
        if not data:
            self._has_stdin = False
            self._end_input()
            return
        self._ends_line = data.endswith(b"\n")
        if self._records_input and self._child.is_echoing():
            self._cast.add_input(data)
        self._pending += data

    def _write_input(self) -> None:
        if self._pending:
            self._pending = self._pending[self._child.write(self._pending) :]
        if self._eofs and not self._pending:
            self._end_input()

    def _end_input(self) -> None:
        """Passes the end of standard input on, once all that came before it was taken."""
        if not self._child.has_pty:
            if not self._pending:
                self._child.close_input()
            self._eofs = 1 if self._pending else 0
            return
        if not self._eofs:
            self._eofs = 1 if self._ends_line or not self._child.is_line_wise() else 2
        self._timers["eof"] = time.monotonic() + _EOF_RETRY_S
        if not self._pending and self._child.has_read_everything():
            self._child.write(self._child.get_eof())
            self._eofs -= 1
            if not self._eofs:
                del self._timers["eof"]

    # The daemon

    def _check_link(self) -> None:
        link = self._link
        if link is None:
            return
        if not link.is_overdue:
            if self._has_warned_of_loss and link.loss is None and not link.is_letting_go:
                self._has_warned_of_loss = self._has_warned_of_wait = False
                self._terminal.warn(
                    f"this session is being recorded again; {link.lost_bytes} bytes were lost"
                )
            elif link.loss and not self._has_room() and not self._has_warned_of_wait:
                self._has_warned_of_wait = True
                self._terminal.warn(f"the recording waits for the daemon ({link.loss})")
            return
        link.let_go()
        if not self._has_warned_of_loss:
            self._has_warned_of_loss = True
            reason = link.describe_loss()
            if self._policy == OnRecordingFailure.STOP:
                self.was_stopped = True
                self._terminal.warn(f"this session ends, because it cannot be recorded: {reason}")
                self._child.hang_up()
                self._timers["kill"] = time.monotonic() + KILL_S
            else:
                self._terminal.warn(f"THIS SESSION IS NOT BEING RECORDED NOW: {reason}")

    # Signals and timers

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._exit_status = self._child.get_exit_status()
            if self._exit_status is not None:
                self._has_stdin, self._pending, self._eofs = False, b"", 0
                self._timers.clear()
        elif number == signal.SIGWINCH:
            self._on_resize()
        elif number == signal.SIGCONT:
            self._terminal.enter_raw()
        elif number in _FORWARDED and (self._child.has_pty or number not in _FROM_TERMINAL):
            # On pipes the command is in our process group: what the terminal sends, it has had.
            self._child.send_signal(number)
            if number == signal.SIGHUP:
                self._child.send_signal(signal.SIGCONT)
            elif number == signal.SIGTERM:
                self._timers.setdefault("hang up", time.monotonic() + HANG_UP_S)

    def _on_resize(self) -> None:
        size = self._terminal.get_size()
        if size != self._size and self._child.has_pty and self._exit_status is None:
            self._size = size
            self._child.resize(size)
            self._cast.add_resize(size)

    def _on_time(self) -> None:
        now = time.monotonic()
        for name in [name for name, moment in self._timers.items() if moment <= now]:
            del self._timers[name]
            if name == "hang up":
                self._child.hang_up()
            elif name == "kill":
                self._child.send_signal(signal.SIGKILL)
            else:
                self._end_input()
