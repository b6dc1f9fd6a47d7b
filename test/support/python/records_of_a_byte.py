"""A server over TLS whose answers come in records of one byte each: records_of_a_byte.py CERTIFICATE KEY [PAYLOAD].

Prints its port. Whoever asks gets the head of a stream of events, and then events for as long as they are read: it is a provider
of a model. With a file it speaks HTTP/2, on all addresses of this machine, and gives each connection what is in the file.
"""

import pathlib
import socket
import ssl
import sys
import threading

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
EVENTS = b'data: {"a":1}\n\n' * 200
PAYLOAD = pathlib.Path(sys.argv[3]).read_bytes() if len(sys.argv) > 3 else b""


def serve(connection: socket.socket, context: ssl.SSLContext) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=True)

    def until_done(step):
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                connection.sendall(outgoing.read())
                read = connection.recv(65536)
                if not read:
                    raise ConnectionError
                incoming.write(read)

    try:
        until_done(tls.do_handshake)
        until_done(lambda: tls.read(65536))
        if PAYLOAD:
            for at in range(len(PAYLOAD)):
                tls.write(PAYLOAD[at : at + 1])
            connection.sendall(outgoing.read())
            while until_done(lambda: tls.read(65536)):
                pass
        tls.write(HEAD)
        while not PAYLOAD:
            for at in range(len(EVENTS)):
                tls.write(EVENTS[at : at + 1])
            connection.sendall(outgoing.read())
    except (OSError, ssl.SSLError):
        connection.close()


def main() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    if PAYLOAD:
        context.set_alpn_protocols(["h2"])
    server = socket.create_server(("0.0.0.0" if PAYLOAD else "127.0.0.1", 0), backlog=4096)
    print(server.getsockname()[1], flush=True)
    while True:
        connection, _ = server.accept()
        threading.Thread(target=serve, args=(connection, context), daemon=True).start()


main()
