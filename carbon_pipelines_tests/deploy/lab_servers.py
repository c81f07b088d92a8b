"""Servers of the lab, run by path inside a namespace: a name server, and an HTTP(S) server.

What belongs here: the few answers that an edge needs, and faults that a server itself can have.
What does not: the network (``network_lab.py``) and PostgreSQL, which is the real one.
"""

import json
import socket
import ssl
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def serve_names(address: str, zone_file: str) -> None:
    """A records from a JSON file that is read anew for every question; NXDOMAIN for the rest."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind((address, 53))
        ready()
        while True:
            question, asker = listening.recvfrom(4096)
            name, at = [], 12
            while question[at]:
                name.append(question[at + 1 : at + 1 + question[at]].decode())
                at += 1 + question[at]
            kind = struct.unpack(">H", question[at + 1 : at + 3])[0]
            zone = json.loads(Path(zone_file).read_text())
            found = zone.get(".".join(name).lower())
            answers = [found] if found and kind == 1 else []
            flags = 0x8180 if found else 0x8183
            head = question[:2] + struct.pack(">HHHHH", flags, 1, len(answers), 0, 0)
            body = question[12 : at + 5]
            for one in answers:
                body += b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + socket.inet_aton(one)
            listening.sendto(head + body, asker)


class Answers(BaseHTTPRequestHandler):
    """An Iceberg catalog's configuration, after a delay that a file tells."""

    delay_file = ""

    def do_GET(self) -> None:
        time.sleep(float(Path(self.delay_file).read_text()))
        body = json.dumps({"defaults": {}, "overrides": {}, "namespaces": []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve_https(port: str, certificate: str, key: str, delay_file: str) -> None:
    """TLS is shaken hands in the request's own thread, so that a lost client blocks nobody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    Answers.delay_file = delay_file

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128  # while it hangs, the kernel goes on to accept for it

        def finish_request(self, request, client_address) -> None:
            try:
                request = context.wrap_socket(request, server_side=True)
            except OSError:
                return
            super().finish_request(request, client_address)

        def handle_error(self, *_: object) -> None:
            """A probe hangs up when it has seen enough."""

    server = Server(("0.0.0.0", int(port)), Answers)
    ready()
    threading.Thread(target=server.serve_forever).start()


def ready() -> None:
    """Tell who started us that we listen."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()


if __name__ == "__main__":
    {"names": serve_names, "https": serve_https}[sys.argv[1]](*sys.argv[2:])
