"""A client over TLS that sends what it has to say in records of one byte each.

client_in_records_of_a_byte.py PORT CERTIFICATE KEY PROTOCOL CONNECTIONS PAYLOAD: prints "ready" once all connections have shaken
hands and their records are made; each line that it reads then has it send them, all at once, and print "sent" when all of
them are, or have failed. It reads and forgets what it is answered.
"""

import selectors
import socket
import ssl
import sys

PORT, CERTIFICATE, KEY, PROTOCOL, CONNECTIONS, PAYLOAD = sys.argv[1:]


class Connection:
    def __init__(self, context: ssl.SSLContext) -> None:
        self.socket = socket.create_connection(("127.0.0.1", int(PORT)))
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.socket.sendall(outgoing.read())
                incoming.write(self.socket.recv(65536))
        # The client's last words of the handshake.
        self.socket.sendall(outgoing.read())
        self.tls, self.outgoing = tls, outgoing
        self.socket.setblocking(False)
        self.unsent = memoryview(b"")

    def prepare(self, payload: bytes) -> None:
        for at in range(len(payload)):
            self.tls.write(payload[at : at + 1])
        self.unsent = memoryview(self.outgoing.read())

    def go_on(self) -> bool:
        """Returns whether there is more to send."""
        try:
            while self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            return True
        except OSError:
            self.unsent = memoryview(b"")
        return False

    def forget_answers(self) -> bool:
        """Returns whether the connection is still open."""
        try:
            while self.socket.recv(65536):
                pass
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False


def send_all(connections: list[Connection]) -> None:
    selector = selectors.DefaultSelector()
    both = selectors.EVENT_READ | selectors.EVENT_WRITE
    for connection in connections:
        selector.register(connection.socket, both, connection)
    left = len(connections)
    while left > 0:
        for key, events in selector.select():
            connection = key.data
            is_open = not events & selectors.EVENT_READ or connection.forget_answers()
            if is_open and connection.go_on():
                continue
            if is_open and events == selectors.EVENT_READ:
                continue
            selector.unregister(connection.socket)
            left -= 1


def main() -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([PROTOCOL])
    if CERTIFICATE:
        context.load_cert_chain(CERTIFICATE, KEY)
    with open(PAYLOAD, "rb") as file:
        payload = file.read()
    connections = [Connection(context) for _ in range(int(CONNECTIONS))]
    for connection in connections:
        connection.prepare(payload)
    print("ready", flush=True)
    sys.stdin.readline()
    send_all(connections)
    print("sent", flush=True)
    # What comes after the last record is not waited for; the end of the input ends the connections.
    sys.stdin.readline()


main()
