# Tries to reach the world: by address, by name, by raw and packet sockets, by vsock. Expect: passed
import socket
import urllib.request

found = []


def attempt(name, action):
    try:
        action()
    except (OSError, ValueError):
        return
    found.append(name)


attempt("tcp", lambda: socket.create_connection(("1.1.1.1", 53), 2))
attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"hello", ("1.1.1.1", 53)))
attempt("name", lambda: socket.getaddrinfo("example.org", 80))
attempt("http", lambda: urllib.request.urlopen("http://example.org", timeout=2))
attempt("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
attempt("vsock", lambda: socket.socket(40, socket.SOCK_STREAM).connect((2, 22)))


def f(x):
    return x + 1 if not found else str(found)
