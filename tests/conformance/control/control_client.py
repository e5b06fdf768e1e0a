"""The controller protocol of computed and storaged, spoken by Debian's python3-grpcio.

The message classes are built from what the daemons' own server reflection says, so this also
proves that a tool which knows nothing of Tailrace can find out how to talk to it.
"""
import argparse
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import time

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

ENVIRONMENT = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32
VERSION = 1


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Daemon:
    def __init__(self, arguments, name, pki):
        self.name = name
        self.pki = pki
        self.address = f"127.0.0.1:{free_port()}"
        self.data = os.path.join(pki, name)
        certificate = os.path.join(pki, f"{name}-test")
        command = [
            os.path.join(arguments.bin, name),
            f"--controller-listen-addr={self.address}", "--internal-http-listen-addr=",
            f"--environment-id={ENVIRONMENT}", "--carrier=tcp", "--workers=2",
            f"--tls-cert={certificate}.crt", f"--tls-key={certificate}.key",
            f"--tls-ca={pki}/ca.crt", "--log-level=error",
        ]
        if name == "storaged":
            command += [f"--data-directory={self.data}",
                        f"--storage-listen-addr=127.0.0.1:{free_port()}"]
        else:
            command += [f"--compute-listen-addr=127.0.0.1:{free_port()}"]
        self.process = subprocess.Popen(command)

    def channel(self, role):
        def read(name):
            with open(os.path.join(self.pki, name), "rb") as f:
                return f.read()
        credentials = grpc.ssl_channel_credentials(
            read("ca.crt"), read(f"{role}-test.key"), read(f"{role}-test.crt"))
        options = [("grpc.ssl_target_name_override", f"{self.name}.tailrace.internal"),
                   ("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1),
                   ("grpc.initial_reconnect_backoff_ms", 50),
                   ("grpc.max_reconnect_backoff_ms", 200)]
        return grpc.secure_channel(self.address, credentials, options)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


# ---- messages, from reflection ----------------------------------------------------------------------

def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number, text):
    return varint(number << 3 | 2) + varint(len(text)) + text


def reflected_files(channel):
    """The files that describe the protocol. Reflection's own few messages are read by hand."""
    call = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    wanted = [field(4, b"tailrace.v1.Compute"), field(3, b"plan.proto")]
    return [take_file(response) for response in call(iter(wanted), timeout=10)]


def parse(data):
    """(number, value) of each field of a message; only varints and length-delimited ones."""
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = number()
        if key & 7 == 0:
            yield key >> 3, number()
        else:
            expect(key & 7 == 2, "wire type")
            size = number()
            yield key >> 3, data[at:at + size]
            at += size


def take_file(response):
    for number, value in parse(response):
        if number == 4:  # file_descriptor_response
            for inner, file in parse(value):
                if inner == 1:
                    return descriptor_pb2.FileDescriptorProto.FromString(file)
    raise AssertionError("reflection knows no such file")


def load_messages(channel):
    pool = descriptor_pool.DescriptorPool()
    files = {file.name: file for file in reflected_files(channel)}
    added = set()

    def add(name):
        if name in added:
            return
        added.add(name)
        for dependency in files[name].dependency:
            add(dependency)
        pool.Add(files[name])

    for name in sorted(files):
        add(name)
    factory = message_factory.MessageFactory(pool)
    return lambda name: factory.GetPrototype(pool.FindMessageTypeByName("tailrace.v1." + name))


# ---- sessions -----------------------------------------------------------------------------------------

class Session:
    """One bidirectional stream: send commands, take responses."""

    def __init__(self, channel, message, service):
        self.command = message(service + "Command")
        self.message = message
        self.requests = queue.Queue()
        self.call = channel.stream_stream(
            f"/tailrace.v1.{service}/Session",
            request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
            response_deserializer=message(service + "Response").FromString,
        )(iter(self.requests.get, None), timeout=20)

    def send(self, **command):
        self.requests.put(self.command(**command))

    def hello(self, epoch, nonce, environment=ENVIRONMENT, version=VERSION):
        self.send(hello=self.message("Hello")(version=version, environment=environment,
                                              epoch=epoch, nonce=nonce))

    def take(self, kind):
        """The next response of a kind; others may come in between."""
        for response in self.call:
            if response.WhichOneof("response") == kind:
                return getattr(response, kind)
        raise AssertionError(f"the session ended before a {kind}")

    def expect_end(self, code, text):
        try:
            for _ in self.call:
                pass
        except grpc.RpcError:
            pass
        expect(self.call.code() == code, f"{self.call.code()}: {self.call.details()}")
        expect(text in self.call.details(), self.call.details())

    def close(self):
        self.requests.put(None)
        for _ in self.call:
            pass
        expect(self.call.code() == grpc.StatusCode.OK, self.call.code())


def check_handshake(channel, message, service):
    code = grpc.StatusCode
    session = Session(channel, message, service)
    session.hello(epoch=5, nonce=77)
    hello = session.take("hello")
    expect((hello.nonce, hello.workers, hello.version) == (77, 2, VERSION), hello)

    stale = Session(channel, message, service)
    stale.hello(epoch=4, nonce=78)
    stale.expect_end(code.FAILED_PRECONDITION, "epoch 4 is stale")

    foreign = Session(channel, message, service)
    foreign.hello(epoch=6, nonce=79, environment=OTHER)
    foreign.expect_end(code.PERMISSION_DENIED, OTHER)

    version = Session(channel, message, service)
    version.hello(epoch=6, nonce=79, version=99)
    version.expect_end(code.UNIMPLEMENTED, "version 99")

    garbage = Session(channel, message, service)
    garbage.requests.put(b"\xff\xff\xff\xff")
    garbage.expect_end(code.INVALID_ARGUMENT, "malformed")

    rude = Session(channel, message, service)
    rude.send(initialization_complete=message("InitializationComplete")())
    rude.expect_end(code.INVALID_ARGUMENT, "Hello")

    # None of them disturbed the session; a newer epoch takes it over.
    newer = Session(channel, message, service)
    newer.hello(epoch=6, nonce=80)
    expect(newer.take("hello").nonce == 80, "nonce")
    session.expect_end(code.FAILED_PRECONDITION, "took over")
    return newer


def compute_commands(session, message):
    session.send(create_instance=message("CreateInstance")(cluster=1, replica=0))
    session.send(allow_compaction=message("AllowCompaction")(id=12345, frontier=10))
    session.send(cancel_peek=message("CancelPeek")(id=9))
    session.send(initialization_complete=message("InitializationComplete")())
    session.send(peek=message("Peek")(id=7, index=4242, time=1, limit=-1))
    answer = session.take("peek")
    expect(answer.id == 7 and answer.error.message, answer)
    session.close()


def storage_commands(session, message):
    session.send(initialization_complete=message("InitializationComplete")())
    session.send(append=message("Append")(time=1))
    answer = session.take("append")
    expect(answer.time == 1, answer)
    session.close()


def check_roles(daemon, message, service):
    with daemon.channel("client") as channel:
        health = channel.unary_unary("/grpc.health.v1.Health/Check")
        expect(health(b"", timeout=10) == b"\x08\x01", "health")
        session = Session(channel, message, service)
        session.hello(epoch=100, nonce=1)
        session.expect_end(grpc.StatusCode.PERMISSION_DENIED, "wanted is environmentd")
    wrong = "computed" if daemon.name == "storaged" else "storaged"
    with daemon.channel(wrong) as channel:
        session = Session(channel, message, service)
        session.hello(epoch=100, nonce=1)
        session.expect_end(grpc.StatusCode.PERMISSION_DENIED, f'{wrong} "test"')


def check(arguments, pki, name, service, commands):
    daemon = Daemon(arguments, name, pki)
    try:
        with daemon.channel("environmentd") as channel:
            grpc.channel_ready_future(channel).result(20)
            if name == "computed":
                arguments.message = load_messages(channel)
            message = arguments.message
            session = check_handshake(channel, message, service)
            commands(session, message)
        check_roles(daemon, message, service)
        expect(daemon.stop() == 0, "exit code")
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
    print(f"passed {name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="where the daemons are")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tailrace-control-") as pki:
        subprocess.run([os.path.join(arguments.bin, "issue_certificates"), pki, ENVIRONMENT,
                        "environmentd", "storaged", "computed", "client"], check=True)
        begin = time.monotonic()
        check(arguments, pki, "computed", "Compute", compute_commands)
        check(arguments, pki, "storaged", "Storage", storage_commands)
        print(f"{time.monotonic() - begin:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
