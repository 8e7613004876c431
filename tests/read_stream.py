#!/usr/bin/env python3
"""Prints the payloads of a kpipe stream, one per line, from nothing but kstream(5); exits 1 at damage.
Uncompressed streams only: LZ4 and Zstandard are not in Python's library."""
import json, os, struct, sys, uuid
TABLE = []
for i in range(256):
    for _ in range(8):
        i = (i >> 1) ^ (0x82F63B78 if i & 1 else 0)
    TABLE.append(i)

def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF

def segment(path, stream, shard, base):
    """The segment's bytes, its identity, and what it says of its predecessor: base, bytes, end."""
    data, identity = open(path, "rb").read(), stream + struct.pack("<IQ", shard, base)
    assert data[:8] == b"kpipeseg" and struct.unpack_from("<H", data, 8) == (1,), path
    assert crc32c(identity + data[:124]) == struct.unpack_from("<I", data, 124)[0], path
    return data, identity, struct.unpack_from("<QQQ", data, 72)

def frames(data, identity, base, limit):
    at, expected = 128, base
    while (limit is None or at < limit) and data[at:at + 4] == b"kpf1" and len(data) >= at + 64:
        head = data[at:at + 64]
        kind, codec, columns, stored, count, first = struct.unpack_from("<BBHIIQ", head, 4)
        sums, body = struct.unpack_from("<II", head, 56), data[at + 64:at + 64 + stored]
        whole = crc32c(identity + head[:56]) == sums[0] and first == expected
        if not whole or len(body) < stored or crc32c(body) ^ sums[0] != sums[1]:
            break
        assert codec == 0, "compressed"
        provenance = struct.unpack_from("<H", head, 44)[0]
        yield kind, columns, count, body[provenance:], struct.unpack_from("<I", head, 48)[0]
        at, expected = at + 64 + stored, first + count
    if limit is not None and at < limit:  # Behind what the next segment vouches for it is the tail.
        sys.exit(f"damaged at byte {at}")

def records(columns, count, body, at):
    width, size = columns & 3, [1, 2, 4, 4][columns & 3]
    lengths = [int.from_bytes(body[i * size:(i + 1) * size], "little") for i in range(1 if width == 3 else count)]
    for length in lengths * count if width == 3 else lengths:
        yield body[at:at + length]
        at += length + (1 if columns & 0x100 else 0)

root = sys.argv[1]
head, body = open(os.path.join(root, "manifest.json"), "rb").read().split(b"\n", 1)
assert json.loads(head)["crc32c"] == crc32c(body)
stream = uuid.UUID(json.loads(body)["streamId"]).bytes
for info in json.loads(body)["shards"]:  # Parents have lower numbers than their children.
    place = os.path.join(root, f"shardId-{info['shard']:012}")
    bases = sorted(int(name[:20]) for name in os.listdir(place) if name.endswith(".seg") and name[0] != ".")
    parts = [segment(os.path.join(place, f"{base:020}.seg"), stream, info["shard"], base) for base in bases]
    for base, (data, identity, _), after in zip(bases, parts, parts[1:] + [None]):
        if after and after[2][0] != base:
            sys.exit(f"the segment {after[2][0]} is missing")
        for kind, columns, count, body, payloads in frames(data, identity, base, after and after[2][1]):
            for payload in records(columns, count, body, payloads) if kind == 1 else ():
                sys.stdout.buffer.write(payload + b"\n")
