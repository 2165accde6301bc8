"""Every field that the commands of simulated worlds print with --json, with its meaning.

`docs/cli.md` is made from it, and a test compares it with what they print.
"""

from node.cli.fields import Fields

_RUN = {
    "scenario": "name of what was run",
    "seed": "number that everything in the run follows from",
    "trace_hash": "BLAKE3 of the trace, in hexadecimal: the identity of the run",
    "virtual_s": "seconds that passed in the world",
    "real_s": "seconds that it took",
    "steps": "callbacks of the event loop",
    "faults": "how many faults the plan has",
    "failures": "what did not hold, an array of sentences; empty if all is well",
}

COMMAND_FIELDS: dict[str, Fields] = {
    "list": {
        "scenarios": "an array of {`name`, `nodes`, `summary`}",
    },
    "run": _RUN,
    "explore": {
        "scenario": "name of what was run",
        "first_seed": "where it began",
        "last_seed": "where it was to end",
        "passed": "seeds that passed, before the one that failed",
        "virtual_s": "seconds that passed in their worlds, together",
        "real_s": "seconds that it took",
        "failed": "the run of the lowest seed that failed, with the fields of `run`; else null",
        "command": "what repeats it; else null",
    },
    "shrink": {
        "before": "faults of the plan with which it failed",
        "after": "those that are left",
        "runs": "runs that it took",
        "plan": "where the smaller plan stands",
        "command": "what repeats the failure",
    },
    "show": {
        "scenario": "name of what was run",
        "seed": "number that all randomness of the run was drawn from",
        "hash": "BLAKE3 of the trace, as far as it could be read, in hexadecimal: the identity of the run",
        "complete": "is the last line of the trace there, and right?",
        "damage": "what is wrong with the trace behind the events that are shown; else empty",
        "events": "events that could be read",
        "chosen_events": "those of them that the options choose",
        "last_ns": "virtual time of the last event, in nanoseconds since the start of the run",
        "nodes": "names of the nodes that are shown, an array",
        "kinds": "chosen events by kind, an object",
        "failed": "events that say that the run went wrong, chosen or not",
        "failures": "those of them that are chosen, the first 200: an array of"
        " {`at_ns`, `place`, `kind`, `detail`}",
        "faults": "when nodes were down or cut off, an array of"
        " {`place`, `kind`, `from_ns`, `until_ns`, `detail`}; `until_ns` is null if it lasted to the end",
        "rows": "at most 300 rows, each of like events: an array of {`at_ns`, `until_ns`, `kind`, `places`,"
        " `count`, `detail`}; `places` tells how many of each place, `detail` is of the first",
        "notes": "what is not shown or folded, an array of sentences",
        "html": "page that was written; null without `--html`",
    },
}
