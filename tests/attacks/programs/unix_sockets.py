# Tries to reach Unix sockets of the host: an abstract one, and one in a folder. Expect: passed
import socket

found = []
for address in ("\0HOST_TOKEN", "HOST_FOLDER/socket", "/run/docker.sock", "/var/run/dbus/system_bus_socket"):
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            connection.connect(address)
            found.append(address)
    except OSError:
        pass


def f(x):
    return x + 1 if not found else str(found)
