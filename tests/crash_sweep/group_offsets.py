"""A group's committed offsets, asked for and set in Kafka's own protocol over one connection.

A librdkafka consumer belongs to one group for life; the sweep has a group for each kill point, and asks often.
"""

import socket
import struct
import time

OFFSET_COMMIT, OFFSET_FETCH = (8, 2), (9, 1)  # API key, version

# The coordinator is loading, not available yet, or its topic is being made: they pass.
PASSING_ERRORS = (14, 15, 16)


def _string(text):
    data = text.encode()
    return struct.pack(">h", len(data)) + data


class GroupOffsets:
    """Of topics with a single partition, on a cluster with a single broker (which coordinates every group)."""

    def __init__(self, bootstrap):
        host, port = bootstrap.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self._correlation = 0

    def close(self):
        self._socket.close()

    def _receive(self, size):
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                raise OSError("Kafka closed the connection")
            data += more
        return data

    def _ask(self, api, body):
        self._correlation += 1
        request = struct.pack(">hhi", *api, self._correlation) + _string("crash-sweep") + body
        self._socket.sendall(struct.pack(">i", len(request)) + request)
        answer = self._receive(struct.unpack(">i", self._receive(4))[0])
        assert struct.unpack(">i", answer[:4])[0] == self._correlation, "Kafka's answers are out of order"
        return answer[4:]

    def _ask_until_good(self, api, body, read):
        deadline = time.monotonic() + 30
        while True:
            value, error = read(self._ask(api, body))
            if not error:
                return value
            assert error in PASSING_ERRORS and time.monotonic() < deadline, "Kafka's error %d" % error
            time.sleep(0.05)

    def fetch(self, group, topic):
        """The committed offset, -1 where there is none."""
        body = _string(group) + struct.pack(">i", 1) + _string(topic) + struct.pack(">ii", 1, 0)
        partition = 4 + len(_string(topic)) + 4  # behind the counts and the topic's name

        def read(answer):
            offset, metadata_len = struct.unpack_from(">qh", answer, partition + 4)
            [error] = struct.unpack_from(">h", answer, partition + 14 + max(metadata_len, 0))
            return offset, error
        return self._ask_until_good(OFFSET_FETCH, body, read)

    def commit(self, group, topic, offset):
        """For a group that has no members."""
        body = (_string(group) + struct.pack(">i", -1) + _string("") + struct.pack(">q", -1)
                + struct.pack(">i", 1) + _string(topic)
                + struct.pack(">iiq", 1, 0, offset) + _string(""))

        def read(answer):
            return None, struct.unpack(">h", answer[-2:])[0]
        self._ask_until_good(OFFSET_COMMIT, body, read)
