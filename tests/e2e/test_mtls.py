"""Who is refused at the services' ports, how it is told, and how certificates are renewed.

Each port of a real environment (control 2100, storage 2101, exchange 2102) is tried by a peer
without a certificate, by one of another environment, by one in plain text and by one of the wrong
role. Every time the peer hears why, as far as the protocol can tell it, and the refusing process
writes a line that names the reason.
"""
import os
import socket
import ssl
import struct
import subprocess
import tempfile
import time

import environment
import grpc
import harness

OTHER = "f" * 32
MAGIC = 0x454341524C494154  # ring/frame/hello.h
VERSION = 3  # HELLO_VERSION of ring/frame/hello.h
LOG_WINDOW = 11  # seconds: a little more than LOG_LIMIT_MS of core/base/log.h
PORTS = {"control": "--controller-listen-addr", "storage": "--storage-listen-addr",
         "exchange": "--compute-listen-addr"}


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def frame(kind, payload):
    """One whole message as ring/frame writes it."""
    head = struct.pack("<IIBBHHHIIQQI", 0x31465254, len(payload), kind, 3, 0, 0, 0, 0, 0, 0, 0,
                       len(payload))
    return head + struct.pack("<I", crc32c(head + payload)) + payload


def hello(protocol, environment_id):
    """A handshake that claims to come from a computed process of this environment."""
    host = b"elsewhere"
    return struct.pack("<QHBBB16sQIQQQQIIIQB", MAGIC, VERSION, protocol, 2, 1,
                       bytes.fromhex(environment_id), 1, 0, 1, 1, 1, 1, 1, 0, 1, 0,
                       len(host)) + host + bytes(32)


class Service:
    """A process of the environment: what it was told on its command line."""

    def __init__(self, name, pid):
        self.name = name
        self.pid = pid
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            words = f.read().decode().split("\0")
        self.flags = dict(word.split("=", 1) for word in words if "=" in word)

    def address(self, port):
        host, number = self.flags[PORTS[port]].rsplit(":", 1)
        return host, int(number)


class MutualTls(harness.EnvironmentTest):
    FLAGS = ("--carrier=tcp",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # Processes of a replica meet on 2102: there must be two of them.
        connection = cls.env.connect()
        connection.cursor().execute("CREATE CLUSTER pair (SIZE '2-1', REPLICATION FACTOR 1)")
        connection.close()
        services = environment.poll("a replica of two processes", cls.find_services)
        cls.doors = [("control", services["storaged"]), ("control", services["computed"]),
                     ("storage", services["storaged"]), ("exchange", services["computed"])]
        flags = services["storaged"].flags
        cls.environment_id = flags["--environment-id"]
        cls.pki = os.path.dirname(flags["--tls-ca"])
        cls.other = tempfile.mkdtemp(prefix="tailrace-other-")
        issue = os.path.join(harness.BINARIES, "issue_certificates")
        subprocess.run([issue, cls.pki, cls.environment_id, "client", "environmentd"], check=True)
        subprocess.run([issue, cls.other, OTHER, "environmentd", "computed"], check=True)

    @classmethod
    def find_services(cls):
        """storaged, and a process of the replica of two whose exchange listens."""
        found = [Service(name, pid) for name, pid in cls.env.services()]
        computed = [s for s in found if s.flags.get("--processes") == "2"
                    and s.flags["--process"] == "0"]
        if not computed:
            return None
        try:
            socket.create_connection(computed[0].address("exchange"), timeout=5).close()
        except OSError:
            return None
        return {"computed": computed[0],
                "storaged": next(s for s in found if s.name == "storaged")}

    def log_of(self, service):
        directory = os.path.join(str(self.env.directory), "orchestrator", "logs")
        text = ""
        for name in os.listdir(directory):
            with open(os.path.join(directory, name), errors="replace") as f:
                content = f.read()
            if f"process={service.name}" in content:
                text += content
        return text

    def logs(self, service, port, *words, again=None):
        """Waits for a line of the port's module with all the words. Such lines come at a limited
        rate: `again` makes another one from time to time, should the first have been withheld."""
        module = "module=rpc" if port == "control" else "module=ring"
        tried = time.monotonic()

        def found():
            nonlocal tried
            if any(module in line and "refused" in line and all(w in line for w in words)
                   for line in self.log_of(service).split("\n")):
                return True
            if again is not None and time.monotonic() - tried > LOG_WINDOW:
                tried = time.monotonic()
                again()
            return False
        environment.poll(f"a line of {service.name} with {words}", found, 60)

    def tls(self, directory=None, role=None, port="storage"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(os.path.join(self.pki, "ca.crt"))
        if port == "control":
            context.set_alpn_protocols(["h2"])
        if role is not None:
            stem = os.path.join(directory, f"{role}-test")
            context.load_cert_chain(stem + ".crt", stem + ".key")
        return context

    def reason(self, context, service, port):
        """What a client whose certificate does not do hears: TLS 1.3 tells it on the first read."""
        with socket.create_connection(service.address(port), timeout=20) as plain:
            try:
                with context.wrap_socket(plain) as stream:
                    stream.settimeout(20)
                    data = stream.recv(1)
            except ssl.SSLError as problem:
                return str(problem)
        self.fail(f"{port} of {service.name} went on: {data}")

    def test_no_certificate(self):
        for port, service in self.doors:
            with self.subTest(port=port, service=service.name):
                def call(service=service, port=port):
                    heard = self.reason(self.tls(port=port), service, port)
                    self.assertIn("certificate required", heard)
                call()
                self.logs(service, port, "peer did not return a certificate", again=call)

    def test_another_environment(self):
        for port, service in self.doors:
            with self.subTest(port=port, service=service.name):
                def call(service=service, port=port):
                    context = self.tls(self.other, "computed", port)
                    self.assertIn("unknown ca", self.reason(context, service, port))
                call()
                self.logs(service, port, "certificate does not verify", again=call)

    def test_plain_text(self):
        for port, service in self.doors:
            with self.subTest(port=port, service=service.name):
                def call(service=service, port=port):
                    with socket.create_connection(service.address(port), timeout=20) as plain:
                        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                        plain.settimeout(20)
                        while plain.recv(4096):
                            pass  # a TLS alert, then the end
                call()
                self.logs(service, port, "TLS handshake with 127.0.0.1:", again=call)

    def test_wrong_role_at_the_rings(self):
        protocols = {"storage": 1, "exchange": 2}
        for port, service in self.doors:
            if port not in protocols:
                continue
            with self.subTest(port=port):
                def call(service=service, port=port):
                    context = self.tls(self.pki, "client", port)
                    with socket.create_connection(service.address(port), timeout=20) as plain:
                        with context.wrap_socket(plain) as stream:
                            stream.settimeout(20)
                            stream.sendall(frame(1, hello(protocols[port], self.environment_id)))
                            answer = b""
                            while piece := stream.recv(4096):
                                answer += piece
                    self.assertEqual(answer[8], 3, "REFUSE")
                    text = answer[48:].decode()
                    self.assertIn('client "test" of environment', text)
                    self.assertIn("wanted is", text)
                call()
                self.logs(service, port, "refusal=role", 'client \\"test\\" of environment',
                          "peer=127.0.0.1:", again=call)

    def test_wrong_role_at_control(self):
        def read(name):
            with open(os.path.join(self.pki, name), "rb") as f:
                return f.read()
        for port, service in self.doors:
            if port != "control":
                continue
            with self.subTest(service=service.name):
                credentials = grpc.ssl_channel_credentials(
                    read("ca.crt"), read("client-test.key"), read("client-test.crt"))
                host, number = service.address(port)
                options = [("grpc.ssl_target_name_override", f"{service.name}.tailrace.internal")]
                kind = "Storage" if service.name == "storaged" else "Compute"
                with grpc.secure_channel(f"{host}:{number}", credentials, options) as channel:
                    call = channel.stream_stream(f"/tailrace.v1.{kind}/Session")
                    with self.assertRaises(grpc.RpcError) as refused:
                        list(call(iter([b""]), timeout=20))
                self.assertEqual(refused.exception.code(), grpc.StatusCode.PERMISSION_DENIED)
                self.assertIn("wanted is environmentd", refused.exception.details())
                self.logs(service, port, "call refused", 'client \\"test\\" of environment')


class Renewal(MutualTls):
    """Certificates of twelve seconds: everything goes on, nothing restarts."""

    FLAGS = ("--carrier=tcp", "--certificate-lifetime=12")

    def serial(self, service, port):
        context = self.tls(self.pki, "environmentd", port)
        with socket.create_connection(service.address(port), timeout=20) as plain:
            with context.wrap_socket(plain) as stream:
                return ssl.DER_cert_to_PEM_cert(stream.getpeercert(True))

    def certificates_of_the_test(self):
        """Ours are renewed by nobody: the tool makes them anew when they are due."""
        subprocess.run([os.path.join(harness.BINARIES, "issue_certificates"), self.pki,
                        self.environment_id, "client", "environmentd"], check=True)

    def setUp(self):
        super().setUp()
        self.certificates_of_the_test()

    def test_renewed_while_running(self):
        self.execute("CREATE TABLE t (a int)")
        self.execute("CREATE MATERIALIZED VIEW v AS SELECT sum(a) AS s FROM t")
        before = self.env.services()
        first = [self.serial(service, port) for port, service in self.doors]
        for n in range(3):  # more than three lifetimes: the first certificates are long over
            environment.poll("new certificates", lambda: all(
                self.serial(service, port) != first[i]
                for i, (port, service) in enumerate(self.doors)), 60, 1)
            first = [self.serial(service, port) for port, service in self.doors]
            self.execute("INSERT INTO t VALUES (1)")
            self.eventually("SELECT s FROM v", [(n + 1,)])
        self.assertEqual(self.env.services(), before, "a process was restarted")

    def test_new_connections_after_renewal(self):
        """A computed that comes later shakes hands with certificates of several generations."""
        self.execute("CREATE TABLE late (a int)")
        first = [self.serial(service, port) for port, service in self.doors]
        environment.poll("new certificates", lambda: all(
            self.serial(service, port) != first[i]
            for i, (port, service) in enumerate(self.doors)), 60, 1)
        self.execute("CREATE CLUSTER later (SIZE '1', REPLICATION FACTOR 1)")
        self.execute("CREATE MATERIALIZED VIEW w IN CLUSTER later AS SELECT a FROM late")
        self.execute("INSERT INTO late VALUES (7)")
        self.eventually("SELECT a FROM w", [(7,)], 60)

    def test_broken_files_are_healed(self):
        """What cannot be loaded is not used; environmentd puts a good pair in its place."""
        port, service = self.doors[2]
        path = service.flags["--tls-cert"]
        before = self.serial(service, port)
        with open(path, "w") as f:
            f.write("-----BEGIN CERTIFICATE-----\nAAAA\n")

        def healed():
            now = self.serial(service, port)  # every handshake on the way succeeds
            return now != before
        environment.poll("a good certificate", healed, 60, 0.2)


if __name__ == "__main__":
    harness.main()
