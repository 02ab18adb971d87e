#!/usr/bin/env python3
"""A server with every bad manner. The path of a request says which one.

hostile.py [CERTIFICATE KEY]: listens on free ports of 127.0.0.1, with TLS too
when it is given a certificate; prints the ports, and ends when its input does.
"""
import socket
import ssl
import sys
import threading
import time

connections = 0


def read_request(conn):
    """Returns (request line, headers as bytes, body), or None at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = conn.recv(65536)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    line, _, headers = head.partition(b"\r\n")
    length = 0
    for header in headers.split(b"\r\n"):
        name, _, value = header.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    if b"/early" not in line:
        while len(body) < length:
            piece = conn.recv(1 << 20)
            if not piece:
                return None
            body += piece
    return line, headers, body


def respond(conn, status, body=b"", extra=b""):
    conn.sendall(b"HTTP/1.1 %d Whatever\r\nContent-Length: %d\r\n%s\r\n%s"
                 % (status, len(body), extra, body))


def drip(conn, data, pause):
    for i in range(len(data)):
        conn.sendall(data[i:i + 1])
        time.sleep(pause)


def behave(conn, line, headers, body):
    """Answer one request; False: the connection is over."""
    path, _, query = line.split()[1].partition(b"?")
    if path == b"/ok":
        respond(conn, 200, b"fine")
    elif path.startswith(b"/status/"):
        respond(conn, int(path[8:]), query.replace(b"+", b" "))
    elif path == b"/echo":
        respond(conn, 200, line + b"\r\n" + headers + b"\r\n\r\n" + body)
    elif path == b"/size":
        respond(conn, 200, b"%d" % len(body))
    elif path == b"/connections":
        respond(conn, 200, b"%d" % connections)
    elif path == b"/late":
        time.sleep(int(query) / 1000)
        respond(conn, 200, b"late")
    elif path == b"/hang":
        time.sleep(60)
    elif path == b"/drip-head":
        drip(conn, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0.1)
    elif path == b"/drip-body":
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        drip(conn, b"x" * 1000, 0.1)
    elif path == b"/drip-fast":
        drip(conn, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow", 0.002)
    elif path == b"/endless":
        conn.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            conn.sendall(b"x" * 65536)
    elif path == b"/gigabyte":
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + query)
        while True:
            conn.sendall(b"x" * 65536)
    elif path == b"/refuse-much":
        conn.sendall(b"HTTP/1.1 409 No\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            conn.sendall(b"x" * 65536)
    elif path == b"/shorter":
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
        return False
    elif path == b"/refuse-shorter":
        conn.sendall(b"HTTP/1.1 409 No\r\nContent-Length: 100\r\n\r\nONGO")
        return False
    elif path == b"/longer":
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 409 No\r\nContent-Length: 0\r\n\r\n")
    elif path == b"/chunks":
        conn.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nONG\r\n3\r\nOIN\r\n1\r\nG\r\n0\r\n\r\n")
    elif path == b"/trailers":
        conn.sendall(b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n")
    elif path == b"/bad-chunks":
        conn.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzzz\r\n")
    elif path == b"/redirect":
        respond(conn, 302, b"", b"Location: http://169.254.169.254/latest\r\n")
    elif path == b"/one-huge-header":
        conn.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2000000 + b"\r\n\r\n")
        return False
    elif path == b"/endless-headers":
        conn.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            conn.sendall(b"X-More: and more\r\n" * 1000)
    elif path == b"/endless-continue":
        while True:
            conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
    elif path == b"/close":
        return False
    elif path == b"/reset":
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        return False
    elif path == b"/cut":
        conn.sendall(b"HTTP/1.1 2")
        return False
    elif path == b"/cut-headers":
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")
        return False
    elif path == b"/not-http":
        conn.sendall(b"\x00\xff\x1b[31m hello\r\n\r\n")
        return False
    elif path == b"/answer-and-close":
        respond(conn, 200, b"bye")
        return False
    elif path == b"/early":
        respond(conn, 500, b"did not read it")
        return False
    elif path == b"/ugly":
        respond(conn, 500, b"  line\x00one\r\n\x1b[31mred\xff \xe4\xbd\xa0\xe5\xa5\xbd " + "ü".encode() * 1000)
    elif path == b"/gzip":
        respond(conn, 200, b"\x1f\x8bnot gzip", b"Content-Encoding: gzip\r\n")
    else:
        respond(conn, 404, b"no such manner")
    return True


def serve(conn, context):
    try:
        with conn:
            if context:
                conn = context.wrap_socket(conn, server_side=True)
            while True:
                request = read_request(conn)
                if request is None or not behave(conn, *request):
                    break
            conn.close()
    except (OSError, ValueError):
        pass


def listen(context):
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)

    def accept():
        global connections
        while True:
            conn, _ = listener.accept()
            connections += 1
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=serve, args=(conn, context), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


threading.stack_size(256 * 1024)
ports = [listen(None)]
if len(sys.argv) > 2:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(sys.argv[1], sys.argv[2])
    ports.append(listen(tls))
print(*ports, flush=True)
sys.stdin.read()
