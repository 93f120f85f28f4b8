"""Reads a recording as FORMAT.md describes it and prints a JSON line for every frame and every recorded hole.

Written from that page alone, with nothing but the standard library: a test compares what it prints with what was
recorded. Usage: reader.py FILE...
"""

import json
import struct
import sys
import zlib


class Bytes:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if self.at + n > len(self.data):
            raise ValueError("its body ends early")
        self.at += n
        return self.data[self.at - n : self.at]

    def u8(self):
        return self.take(1)[0]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def signed(self):
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def text(self):
        return self.take(self.varint()).decode()

    def maybe(self):
        value = self.varint()
        return None if value == 0 else value - 1

    def many(self, read):
        return [read() for _ in range(self.varint())]


def wrap(value):
    """A sum of differences, as a signed 64-bit number."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def header(b):
    assert b.u8() in (1, 2), "version"
    h = {"node": b.text(), "boot": b.take(16).hex(), "agent": b.text()}

    def metric():
        m = {"name": b.text(), "help": b.text(), "kind": b.u8(), "unit": b.u8(), "scale": [b.varint(), b.varint()]}
        m["labels"] = b.many(b.text)
        return m

    def source():
        s = {"name": b.text(), "about": b.text(), "every": b.varint(), "deadline": b.varint()}
        s["metrics"] = b.many(metric)
        return s

    h["sources"] = b.many(source)
    return h


def gap(b):
    reason = b.u8()
    interval = [b.signed(), b.signed()] if b.u8() else None
    return {"reason": reason, "interval": interval, "count": b.maybe(), "detail": b.text()}


def outcome(number, b):
    if number == 2:
        return [2, b.many(lambda: gap(b))]
    if number == 5:
        return [5, b.varint()]
    return [number] if number < 2 else [number, b.text()]


def events(b, boot, wall):
    def event():
        at = [wrap(boot + b.signed()), wrap(wall + b.signed())]
        kind = b.u8()
        if kind == 1:
            what = [b.u8(), b.u8(), b.maybe()]
        else:
            what = {2: lambda: None, 3: b.text, 4: b.signed, 5: b.maybe, 6: b.text, 7: lambda: [b.text(), b.maybe()]}[kind]()
        return [at, kind, what, b.text()]

    return b.many(event)


def series(b, source, before):
    metric = b.varint()
    same, metric = metric & 1, source["metrics"][metric >> 1]
    return [metric["name"], before[1] if same else [b.text() for _ in metric["labels"]]]


def hole(b):
    boot = b.take(16).hex()
    numbers = [b.varint(), b.varint()] if b.u8() else None
    return {"hole": boot, "numbers": numbers, "gap": gap(b)}


class Reader:
    """Records in, frames out."""

    def __init__(self):
        self.header = None

    def frame(self, kind, b):
        sources = self.header["sources"]
        if kind == 2:
            self.series, self.last, self.sets = ([[] for _ in sources] for _ in range(3))
            self.seq, self.boot, self.wall = b.varint(), b.varint(), b.signed()
        else:
            seq = b.varint()
            assert seq == self.seq + 1, "a delta that does not follow the frame before"
            self.seq, self.boot, self.wall = seq, self.boot + b.signed(), self.wall + b.signed()
        samples = b.many(lambda: self.sample(b))
        return self.show(self.seq, self.boot, self.wall, samples, events(b, self.boot, self.wall))

    def sample(self, b):
        at = b.varint()
        source, known, last = self.header["sources"][at], self.series[at], self.last[at]
        how = b.u8()
        result, took = outcome(how & 7, b), b.varint()
        if how & 32:
            for _ in range(b.varint()):
                known.append(series(b, source, known[-1] if known else None))
                last.append(0)
        which = how >> 3 & 3
        if which == 2:
            self.sets[at], end = [], 0
            for _ in range(b.varint()):
                start = end + b.signed()
                end = start + b.varint()
                self.sets[at] += range(start, end)
        readings, zeros = [], 0
        for number in self.sets[at] if which else []:
            if zeros:
                zeros -= 1
            else:
                difference = b.signed()
                last[number] = wrap(last[number] + difference)
                if difference == 0:
                    zeros = b.varint()
            readings.append(known[number] + [last[number]])
        return [source["name"], result, took, sorted(readings)]

    def block(self, b):
        summary = b.take(64)
        assert zlib.crc32(summary) == struct.unpack("<I", b.take(4))[0], "summary"
        frames, seq, boot, _, wall, _, _, _ = struct.unpack("<QQQQqqqq", summary)
        length = b.varint()
        plain = zlib.decompress(b.take(len(b.data) - b.at), -15)
        assert len(plain) == length, "columns"
        b = Bytes(plain)
        times, step = [(boot, wall)], 0
        for _ in range(frames - 1):
            step = wrap(step + b.signed())
            boot, wall = boot + step, wrap(wall + step + b.signed())
            times.append((boot, wall))
        samples = [[] for _ in range(frames)]
        for _ in range(b.varint()):
            self.columns(b, frames, samples)
        told = [[] for _ in range(frames)]
        for _ in range(b.varint()):
            at = b.varint()
            told[at] = events(b, *times[at])
        assert b.at == len(b.data), "nothing follows"
        for i, (boot, wall) in enumerate(times):
            yield self.show(seq + i, boot, wall, samples[i], told[i])

    def columns(self, b, frames, samples):
        source = self.header["sources"][b.varint()]
        mine = {at: [source["name"], None, 0, []] for at in presence(b, frames)}
        for sample, result in zip(mine.values(), runs(b, len(mine))):
            sample[1] = result
        for sample in mine.values():
            sample[2] = b.varint()
        table = b.many(lambda: b.take(b.varint()))
        found = []
        for metric in source["metrics"]:
            end = 0
            for _ in range(b.varint()):
                start = end + b.signed()
                end = start + b.varint()
                found += [(metric, position) for position in range(start, end)]
        modes, before = [], {}
        for _, position in found:
            mode = b.u8()
            if not mode & 4:
                before[position] = presence(b, frames)
            modes.append((mode & 3, before[position]))
        values = [b.signed() for _ in found]
        for (metric, position), (mode, present), value in zip(found, modes, values):
            labels = Bytes(table[position])
            name, step = [metric["name"], [labels.text() for _ in metric["labels"]]], 0
            for i, at in enumerate(present):
                if i and mode < 2:
                    step = wrap(b.signed() + (step if mode == 1 else 0))
                    value = wrap(value + step)
                mine[at][3].append(name + [value])
        for at, sample in mine.items():
            sample[3].sort()
            samples[at].append(sample)

    def show(self, seq, boot, wall, samples, told):
        return {"boot": self.header["boot"], "seq": seq, "at": [boot, wall], "samples": samples, "events": told}


def presence(b, frames):
    present, at, here = [], 0, True
    while at < frames:
        run = b.varint()
        present += range(at, at + run) if here else []
        at, here = at + run, not here
    return present


def runs(b, samples):
    told = []
    while len(told) < samples:
        length = b.varint()
        told += [outcome(b.u8(), b)] * length
    return told


def main():
    for path in sys.argv[1:]:
        reader = Reader()
        with open(path, "rb") as file:
            while len(head := file.read(9)) == 9:
                length, kind, crc = struct.unpack("<IBI", head)
                body = file.read(length)
                if len(body) < length:
                    break
                assert zlib.crc32(body, zlib.crc32(bytes([kind]))) == crc, "checksum"
                b, lines = Bytes(body), []
                if kind == 1:
                    reader.header = header(b)
                elif kind == 5:
                    lines = [hole(b)]
                else:
                    lines = reader.block(b) if kind == 4 else [reader.frame(kind, b)]
                for line in lines:
                    print(json.dumps(line, separators=(",", ":"), ensure_ascii=False, sort_keys=True))


main()
