#!/usr/bin/env python3
"""A participant that means ill.

    fake_participant.py PORT_FILE

listens on a free port of 127.0.0.1, which it writes to PORT_FILE, and speaks
the protocol of a PostgreSQL server as far as a call needs. The name of the
database says what it does:

    slow      asks for a password hashed 60 million times (SCRAM)
    kerberos  asks for Kerberos
    early     sends one message without end before the session begins
    idle      answers the call; then sends such a message to a session that waits

What it could send of the endless message, in MB, it prints. It ends with its
standard input.
"""
import base64
import os
import socket
import struct
import sys
import threading

ENDLESS = b"N" + struct.pack("!I", 0x38000000) + b"SNOTICE\0M"
LIMIT = 256                     # MB


def read(sock, size):
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def message(kind, body=b""):
    return kind + struct.pack("!I", len(body) + 4) + body


def read_message(sock):
    head = read(sock, 5)
    return head[:1], read(sock, struct.unpack("!I", head[1:])[0] - 4)


def flood(sock, name):
    sent = 0
    try:
        sock.sendall(ENDLESS)
        while sent < LIMIT:
            sock.sendall(b"x" * (1 << 20))
            sent += 1
    except OSError:
        pass
    print(name, sent, flush=True)


def startup(sock):
    while True:
        size, code = struct.unpack("!II", read(sock, 8))
        rest = read(sock, size - 8)
        if code not in (80877103, 80877104):    # not SSLRequest, GSSENCRequest
            words = rest.split(b"\0")
            return dict(zip(words[::2], words[1::2]))[b"database"].decode()
        sock.sendall(b"N")


def ask_scram(sock):
    sock.sendall(message(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"))
    nonce = read_message(sock)[1].split(b"r=")[-1]
    sock.sendall(message(b"R", struct.pack("!I", 11) + b"r=" + nonce + b"more,s=" +
                         base64.b64encode(b"salt" * 4) + b",i=60000000"))
    read_message(sock)


def serve(sock):
    mode = startup(sock)
    if mode == "slow":
        ask_scram(sock)
        return
    if mode == "kerberos":
        sock.sendall(message(b"R", struct.pack("!I", 7)))
        read_message(sock)
        return
    sock.sendall(message(b"R", struct.pack("!I", 3)))
    read_message(sock)
    sock.sendall(message(b"R", struct.pack("!I", 0)))
    if mode == "early":
        flood(sock, mode)
        return
    sock.sendall(message(b"S", b"server_version\x0015.1\0") +
                 message(b"S", b"client_encoding\0UTF8\0") + message(b"Z", b"I"))
    while True:
        kind, _ = read_message(sock)
        if kind == b"X":
            return
        if kind == b"S":
            sock.sendall(message(b"1") + message(b"2") +
                         message(b"T", struct.pack("!H", 1) + b"run_branch\0" +
                                 struct.pack("!IHIhih", 0, 0, 3802, -1, -1, 0)) +
                         message(b"D", struct.pack("!Hi", 1, -1)) +
                         message(b"C", b"SELECT 1\0") + message(b"Z", b"I"))
        elif kind == b"Q":
            sock.sendall(message(b"C", b"RESET\0") + message(b"Z", b"I"))
            flood(sock, mode)
            return


def handle(sock):
    try:
        serve(sock)
    except (EOFError, OSError):
        pass
    finally:
        sock.close()


def main():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(50)
    with open(sys.argv[1] + ".new", "w") as file:
        file.write(str(listener.getsockname()[1]))
    os.rename(sys.argv[1] + ".new", sys.argv[1])

    def accept():
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=handle, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()


main()
