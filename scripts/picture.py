"""Draws docs/recording.svg, the picture in the README: how a recording comes to rest.

Usage: scripts/picture.py > docs/recording.svg
"""

from dataclasses import dataclass, field
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 1000, 470
INK, SOFT, PAPER = "#1f2933", "#616e7c", "#ffffff"
FILLS = {"client": "#e3f2fd", "daemon": "#f4f6f8", "step": "#ffffff", "store": "#e8f5e9", "later": "#ffffff"}


@dataclass(frozen=True)
class Box:
    """A rectangle with a title and lines of small text below it."""

    x: int
    y: int
    width: int
    height: int
    kind: str
    title: str
    lines: list[str] = field(default_factory=list)

    def draw(self) -> str:
        dashes = ' stroke-dasharray="5 4"' if self.kind == "later" else ""
        centre = self.x + self.width / 2
        parts = [
            f'<rect x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}" rx="8"'
            f' fill="{FILLS[self.kind]}" stroke="{SOFT}"{dashes}/>',
            draw_text(centre, self.y + 24, self.title, "bold"),
        ]
        parts += [draw_text(centre, self.y + 44 + 17 * n, line) for n, line in enumerate(self.lines)]
        return "\n".join(parts)


@dataclass(frozen=True)
class Arrow:
    """A line through points, with a head at its end and words at (x, y)."""

    points: list[tuple[int, int]]
    label: str = ""
    x: int = 0
    y: int = 0
    later: bool = False

    def draw(self) -> str:
        path = " ".join(f"{x},{y}" for x, y in self.points)
        dashes = ' stroke-dasharray="5 4"' if self.later else ""
        line = f'<polyline points="{path}" fill="none" stroke="{INK}" marker-end="url(#head)"{dashes}/>'
        return line + ("\n" + draw_text(self.x, self.y, self.label) if self.label else "")


def draw_text(x: float, y: float, text: str, style: str = "") -> str:
    """Centred text: bold for titles, small for all else."""
    look = f'font-size="14" font-weight="600" fill="{INK}"' if style else f'font-size="12" fill="{SOFT}"'
    return f'<text x="{x:g}" y="{y}" text-anchor="middle" {look}>{escape(text)}</text>'


BOXES = [
    Box(20, 40, 200, 190, "client", "session record", ["a file: the daemon reads", "its descriptor"]),
    Box(
        35,
        116,
        170,
        100,
        "step",
        "live sources",
        ["a terminal (the client", "owns the pty), a stream,", "a directory as tar"],
    ),
    Box(20, 262, 200, 78, "client", "list · verify · get · play", ["also while the recording", "still runs"]),
    Box(300, 20, 680, 320, "daemon", "lucid-node run"),
    Box(320, 60, 110, 82, "step", "chunker", ["8 MiB of", "plaintext"]),
    Box(446, 60, 120, 82, "step", "encode", ["zstd level 3,", "Padmé padding"]),
    Box(582, 60, 168, 82, "step", "encryptor", ["XChaCha20-Poly1305,", "a key for each chunk"]),
    Box(766, 60, 194, 82, "step", "merkle_builder", ["BLAKE3: chunk IDs,", "session root"]),
    Box(
        320,
        210,
        246,
        110,
        "store",
        "journal",
        ["live frames, encrypted,", "fsynced every second;", "facts, to remake the index"],
    ),
    Box(
        582,
        210,
        168,
        110,
        "store",
        "blobs",
        ["sealed chunks:", "write, fsync, rename,", "fsync of the directory"],
    ),
    Box(
        766,
        210,
        194,
        110,
        "store",
        "index",
        ["LMDB, with checksums;", "signed checkpoints,", "at the end the manifest"],
    ),
    Box(
        300,
        390,
        450,
        60,
        "daemon",
        "other nodes",
        ["keep sealed replicas and the owner's head, co-sign checkpoints"],
    ),
    Box(766, 390, 214, 60, "later", "later: the chain", ["anchors what was recorded"]),
]
ARROWS = [
    Arrow([(220, 85), (320, 85)], "descriptor", 260, 77),
    Arrow([(430, 100), (446, 100)]),
    Arrow([(566, 100), (582, 100)]),
    Arrow([(750, 100), (766, 100)]),
    Arrow([(220, 170), (280, 170), (280, 265), (320, 265)], "pieces", 250, 162),
    Arrow([(506, 210), (506, 142)], "8 MiB, or 30 s old", 440, 182),
    Arrow([(666, 142), (666, 210)]),
    Arrow([(863, 142), (863, 210)]),
    Arrow([(300, 301), (220, 301)], "sockets", 260, 294),
    Arrow([(525, 340), (525, 390)], "what is durable here, and never before", 650, 370),
    Arrow([(873, 340), (873, 390)], later=True),
]


def draw_picture() -> str:
    """The whole picture as one SVG document."""
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"',
        f' width="{WIDTH}" height="{HEIGHT}" font-family="Helvetica, Arial, sans-serif"',
        ' aria-label="From a source through chunker, compression, encryption and tree into the store">',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"',
        f' orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{INK}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="12" fill="{PAPER}"/>',
    ]
    boxes = [box.draw() for box in BOXES]
    arrows = [arrow.draw() for arrow in ARROWS]
    return "\n".join([*head, *boxes, *arrows, "</svg>\n"])


if __name__ == "__main__":
    print(draw_picture(), end="")
