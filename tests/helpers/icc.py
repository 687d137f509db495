"""ICC profiles of displays, made of the colours of their lights."""

import struct

Colour = tuple[float, float, float]


def profile(red: Colour, green: Colour, blue: Colour, gamma: float, space: bytes = b"RGB ") -> bytes:
    """An ICC profile of a display, by the XYZ of its colours (ICC.1:2001-04, 6.3.1.2) relative to D50."""

    def xyz(values: Colour) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(gamma * 256), 0)
    name = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"wide\0" + bytes(78) + bytes(3)
    parts = {b"desc": name, b"cprt": b"text\0\0\0\0none\0\0\0\0", b"wtpt": xyz((0.9642, 1, 0.8249))}
    parts |= {
        b"rXYZ": xyz(red),
        b"gXYZ": xyz(green),
        b"bXYZ": xyz(blue),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, data = struct.pack(">I", len(parts)), b""
    begin = 128 + 4 + 12 * len(parts)
    for tag, content in parts.items():
        table += tag + struct.pack(">II", begin + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    header = struct.pack(">I4sI4s4s4s", begin + len(data), b"lcms", 0x02400000, b"mntr", space, b"XYZ ")
    header += (
        bytes(12) + b"acsp" + bytes(28) + b"".join(struct.pack(">i", round(v * 65536)) for v in (0.9642, 1, 0.8249))
    )
    return header + bytes(128 - len(header)) + table + data
