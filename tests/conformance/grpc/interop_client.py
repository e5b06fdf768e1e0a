"""The gRPC interoperability cases, with Debian's python3-grpcio as the client.

Starts the server given with --server, runs every case against it and prints one line each. With
--plain over cleartext HTTP/2, else over mutual TLS, where it also checks who is refused and why.
Message classes come from Debian's package grpc-proto through protoc. Needs no other package.
"""
import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

import grpc

PROTO_ROOT = "/usr/share/grpc-proto"
PROTOS = [
    "grpc/testing/empty.proto",
    "grpc/testing/messages.proto",
    "grpc/health/v1/health.proto",
    "grpc/reflection/v1/reflection.proto",
    "grpc/reflection/v1alpha/reflection.proto",
]
TEST = "/grpc.testing.TestService/"


def load_messages(directory):
    """Generated modules, loaded from their files: the package `grpc` itself is taken."""
    import importlib.util
    subprocess.run(["protoc", "-I", PROTO_ROOT, "--python_out", directory] + PROTOS, check=True)
    modules = {}
    for proto in PROTOS:
        base = proto[: -len(".proto")] + "_pb2"
        spec = importlib.util.spec_from_file_location(
            base.replace("/", "_"), os.path.join(directory, base + ".py"))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        modules[proto] = module
    return modules


class Server:
    def __init__(self, binary, plain):
        self.directory = tempfile.mkdtemp(prefix="tailrace-interop-")
        self.plain = plain
        command = [binary, "--directory", self.directory] + (["--plain"] if plain else [])
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()
        if not self.address:
            raise SystemExit("the server did not start")

    def read(self, name):
        with open(os.path.join(self.directory, name), "rb") as f:
            return f.read()

    def credentials(self, identity, ca=None):
        key = self.read(identity + ".key") if identity else None
        certificate = self.read(identity + ".crt") if identity else None
        return grpc.ssl_channel_credentials(ca or self.read("ca.crt"), key, certificate)

    def channel(self, identity="client-good", credentials=None):
        options = [("grpc.enable_retries", 0),
                   ("grpc.ssl_target_name_override", "storaged.tailrace.internal"),
                   ("grpc.use_local_subchannel_pool", 1)]
        if self.plain:
            return grpc.insecure_channel(self.address, options)
        return grpc.secure_channel(self.address, credentials or self.credentials(identity),
                                   options)

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self):
        code = self.process.wait(20)
        subprocess.run(["rm", "-rf", self.directory], check=True)
        return code


class Client:
    """The methods of TestService and the built-in services as Python callables."""

    def __init__(self, channel, modules):
        self.channel = channel
        self.messages = modules["grpc/testing/messages.proto"]
        self.empty = modules["grpc/testing/empty.proto"]
        self.health = modules["grpc/health/v1/health.proto"]
        self.reflection = modules["grpc/reflection/v1/reflection.proto"]
        m = self.messages
        self.empty_call = self.make("unary_unary", TEST + "EmptyCall", self.empty.Empty)
        self.unary_call = self.make("unary_unary", TEST + "UnaryCall", m.SimpleResponse)
        self.input_call = self.make("stream_unary", TEST + "StreamingInputCall",
                                    m.StreamingInputCallResponse)
        self.output_call = self.make("unary_stream", TEST + "StreamingOutputCall",
                                     m.StreamingOutputCallResponse)
        self.duplex_call = self.make("stream_stream", TEST + "FullDuplexCall",
                                     m.StreamingOutputCallResponse)

    def make(self, kind, path, response):
        return getattr(self.channel, kind)(
            path, request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString)

    def payload(self, size):
        return self.messages.Payload(body=b"\0" * size)

    def output_request(self, sizes, payload=0, interval_us=0):
        return self.messages.StreamingOutputCallRequest(
            response_parameters=[
                self.messages.ResponseParameters(size=size, interval_us=interval_us)
                for size in sizes],
            payload=self.payload(payload))


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


def expect_status(call, code, text=None):
    try:
        call()
    except grpc.RpcError as error:
        expect(error.code() == code, f"{error.code()} ({error.details()}) instead of {code}")
        if text is not None:
            expect(text in error.details(), f"{text!r} not in {error.details()!r}")
        return error
    raise AssertionError(f"no error, {code} was expected")


class Requests:
    """An iterator of requests that are handed over one by one."""

    def __init__(self):
        self.condition = threading.Condition()
        self.items = []

    def put(self, item):
        with self.condition:
            self.items.append(item)
            self.condition.notify()

    def __iter__(self):
        return self

    def __next__(self):
        with self.condition:
            while not self.items:
                self.condition.wait()
            item = self.items.pop(0)
        if item is None:
            raise StopIteration
        return item


# ---- the cases of the gRPC project ----------------------------------------------------------------

def empty_unary(c):
    expect(c.empty_call(c.empty.Empty(), timeout=10) == c.empty.Empty(), "not empty")


def large_unary(c):
    response = c.unary_call(
        c.messages.SimpleRequest(response_size=314159, payload=c.payload(271828)), timeout=10)
    expect(response.payload.body == b"\0" * 314159, "wrong body")


def client_streaming(c):
    requests = [c.messages.StreamingInputCallRequest(payload=c.payload(size))
                for size in (27182, 8, 1828, 45904)]
    expect(c.input_call(iter(requests), timeout=10).aggregated_payload_size == 74922, "size")


def server_streaming(c):
    sizes = [31415, 9, 2653, 58979]
    got = [len(r.payload.body) for r in c.output_call(c.output_request(sizes), timeout=10)]
    expect(got == sizes, got)


def ping_pong(c):
    requests = Requests()
    responses = c.duplex_call(requests, timeout=10)
    for size, payload in ((31415, 27182), (9, 8), (2653, 1828), (58979, 45904)):
        requests.put(c.output_request([size], payload))
        expect(len(next(responses).payload.body) == size, "size")
    requests.put(None)
    expect(list(responses) == [], "more than was asked for")


def empty_stream(c):
    expect(list(c.duplex_call(iter([]), timeout=10)) == [], "not empty")


def cancel_after_begin(c):
    requests = Requests()
    call = c.input_call.future(requests, timeout=10)
    call.cancel()
    requests.put(None)
    expect(call.code() == grpc.StatusCode.CANCELLED, call.code())


def cancel_after_first_response(c):
    requests = Requests()
    call = c.duplex_call(requests, timeout=10)
    requests.put(c.output_request([31415], 27182))
    expect(len(next(call).payload.body) == 31415, "size")
    call.cancel()
    requests.put(None)
    expect_status(lambda: next(call), grpc.StatusCode.CANCELLED)


def timeout_on_sleeping_server(c):
    requests = Requests()
    call = c.duplex_call(requests, timeout=0.01)
    requests.put(c.output_request([31415], 27182, interval_us=1000000))
    expect_status(lambda: next(call), grpc.StatusCode.DEADLINE_EXCEEDED)
    requests.put(None)


def status_code_and_message(c):
    status = c.messages.EchoStatus(code=2, message="test status message")
    expect_status(lambda: c.unary_call(c.messages.SimpleRequest(response_status=status)),
                  grpc.StatusCode.UNKNOWN, "test status message")
    request = c.messages.StreamingOutputCallRequest(response_status=status)
    expect_status(lambda: list(c.duplex_call(iter([request]))),
                  grpc.StatusCode.UNKNOWN, "test status message")


def special_status_message(c):
    text = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n"
    status = c.messages.EchoStatus(code=2, message=text)
    error = expect_status(
        lambda: c.unary_call(c.messages.SimpleRequest(response_status=status)),
        grpc.StatusCode.UNKNOWN)
    expect(error.details() == text, repr(error.details()))


def unimplemented_method(c):
    call = c.make("unary_unary", TEST + "UnimplementedCall", c.empty.Empty)
    expect_status(lambda: call(c.empty.Empty()), grpc.StatusCode.UNIMPLEMENTED)


def unimplemented_service(c):
    call = c.make("unary_unary", "/grpc.testing.UnimplementedService/UnimplementedCall",
                  c.empty.Empty)
    expect_status(lambda: call(c.empty.Empty()), grpc.StatusCode.UNIMPLEMENTED)


def check_echoed(call):
    initial = dict(call.initial_metadata())
    trailing = dict(call.trailing_metadata())
    expect(initial.get("x-grpc-test-echo-initial") == "test_initial_metadata_value", initial)
    expect(trailing.get("x-grpc-test-echo-trailing-bin") == b"\x0a\x0b\x0a\x0b\x0a\x0b", trailing)


def custom_metadata(c):
    metadata = (("x-grpc-test-echo-initial", "test_initial_metadata_value"),
                ("x-grpc-test-echo-trailing-bin", b"\x0a\x0b\x0a\x0b\x0a\x0b"))
    request = c.messages.SimpleRequest(response_size=314159, payload=c.payload(271828))
    _, call = c.unary_call.with_call(request, metadata=metadata, timeout=10)
    check_echoed(call)
    call = c.duplex_call(iter([c.output_request([314159], 271828)]), metadata=metadata, timeout=10)
    expect(len(list(call)) == 1, "responses")
    check_echoed(call)


# ---- more ------------------------------------------------------------------------------------------

def many_at_once(c):
    calls = [c.unary_call.future(c.messages.SimpleRequest(response_size=10000), timeout=20)
             for _ in range(300)]
    expect(all(len(call.result().payload.body) == 10000 for call in calls), "size")


def bulk(c):
    total = sum(len(r.payload.body)
                for r in c.output_call(c.output_request([100000] * 300), timeout=20))
    expect(total == 30000000, total)


def too_large(c):
    expect_status(lambda: c.unary_call(c.messages.SimpleRequest(payload=c.payload(4 << 20))),
                  grpc.StatusCode.RESOURCE_EXHAUSTED, "limit")


def malformed_message(c):
    call = c.channel.unary_unary(TEST + "UnaryCall")
    expect_status(lambda: call(b"\xff\xff\xff"), grpc.StatusCode.INVALID_ARGUMENT, "malformed")


def health(c):
    h = c.health
    check = c.make("unary_unary", "/grpc.health.v1.Health/Check", h.HealthCheckResponse)
    watch = c.make("unary_stream", "/grpc.health.v1.Health/Watch", h.HealthCheckResponse)
    serving = h.HealthCheckResponse.SERVING
    for service in ("", "grpc.testing.TestService"):
        expect(check(h.HealthCheckRequest(service=service)).status == serving, service)
    expect(check(h.HealthCheckRequest(service="sleeping")).status ==
           h.HealthCheckResponse.NOT_SERVING, "sleeping")
    expect_status(lambda: check(h.HealthCheckRequest(service="nothing")),
                  grpc.StatusCode.NOT_FOUND)
    call = watch(h.HealthCheckRequest(service=""), timeout=10)
    expect(next(call).status == serving, "watch")
    call.cancel()
    call = watch(h.HealthCheckRequest(service="nothing"), timeout=10)
    expect(next(call).status == h.HealthCheckResponse.SERVICE_UNKNOWN, "watch of nothing")
    call.cancel()


def reflect(c, version):
    r = c.reflection
    call = c.make("stream_stream",
                  f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                  r.ServerReflectionResponse)
    from google.protobuf import descriptor_pb2
    responses = list(call(iter([
        r.ServerReflectionRequest(list_services="*"),
        r.ServerReflectionRequest(file_containing_symbol="grpc.testing.TestService"),
        r.ServerReflectionRequest(file_by_filename="grpc/testing/messages.proto"),
        r.ServerReflectionRequest(file_containing_symbol="no.such.Thing"),
        r.ServerReflectionRequest(all_extension_numbers_of_type="grpc.testing.Payload"),
        r.ServerReflectionRequest(),
    ]), timeout=10))
    expect(len(responses) == 6, len(responses))
    services = {s.name for s in responses[0].list_services_response.service}
    expect({"grpc.testing.TestService", "grpc.health.v1.Health",
            f"grpc.reflection.{version}.ServerReflection"} <= services, services)
    files = [descriptor_pb2.FileDescriptorProto.FromString(
        response.file_descriptor_response.file_descriptor_proto[0]) for response in responses[1:3]]
    expect(files[0].service[0].name == "TestService", files[0].name)
    expect("Payload" in [m.name for m in files[1].message_type], files[1].name)
    expect(responses[3].error_response.error_code == 5, responses[3])
    expect(responses[4].all_extension_numbers_response.base_type_name == "grpc.testing.Payload",
           responses[4])
    expect(responses[5].error_response.error_code == 3, responses[5])
    expect(responses[1].original_request.file_containing_symbol == "grpc.testing.TestService",
           "original request")


def reflection_v1(c):
    reflect(c, "v1")


def reflection_v1alpha(c):
    reflect(c, "v1alpha")


CASES = [
    empty_unary, large_unary, client_streaming, server_streaming, ping_pong, empty_stream,
    cancel_after_begin, cancel_after_first_response, timeout_on_sleeping_server,
    status_code_and_message, special_status_message, unimplemented_method, unimplemented_service,
    custom_metadata, many_at_once, bulk, too_large, malformed_message, health, reflection_v1,
    reflection_v1alpha,
]


# ---- who is refused -------------------------------------------------------------------------------

def refused_without_certificate(server, modules):
    with server.channel(credentials=server.credentials(None)) as channel:
        c = Client(channel, modules)
        expect_status(lambda: c.empty_call(c.empty.Empty(), timeout=10),
                      grpc.StatusCode.UNAVAILABLE)


def refused_of_another_ca(server, modules):
    other = Server(server.process.args[0], False)
    try:
        credentials = grpc.ssl_channel_credentials(
            server.read("ca.crt"), other.read("client-good.key"), other.read("client-good.crt"))
        with server.channel(credentials=credentials) as channel:
            c = Client(channel, modules)
            expect_status(lambda: c.empty_call(c.empty.Empty(), timeout=10),
                          grpc.StatusCode.UNAVAILABLE)
    finally:
        other.terminate()
        expect(other.wait() == 0, "the other server's exit code")


def refused_for_wrong_role(server, modules):
    with server.channel("computed-other") as channel:
        c = Client(channel, modules)
        error = expect_status(lambda: c.empty_call(c.empty.Empty(), timeout=10),
                              grpc.StatusCode.PERMISSION_DENIED, 'computed "other"')
        expect("environmentd or client" in error.details(), error.details())


def refused_in_clear(server, modules):
    with grpc.insecure_channel(server.address) as channel:
        c = Client(channel, modules)
        expect_status(lambda: c.empty_call(c.empty.Empty(), timeout=10),
                      grpc.StatusCode.UNAVAILABLE)


REFUSALS = [refused_without_certificate, refused_of_another_ca, refused_for_wrong_role,
            refused_in_clear]


def drain(server, modules):
    """SIGTERM: the call under way ends in order, a new one finds nobody, the exit code is 0."""
    with server.channel() as channel:
        c = Client(channel, modules)
        requests = Requests()
        call = c.duplex_call(requests, timeout=20)
        requests.put(c.output_request([10]))
        next(call)
        server.terminate()
        time.sleep(0.3)
        requests.put(c.output_request([20]))
        expect(len(next(call).payload.body) == 20, "size")
        with server.channel() as late:
            other = Client(late, modules)
            expect_status(lambda: other.empty_call(other.empty.Empty(), timeout=10),
                          grpc.StatusCode.UNAVAILABLE)
        requests.put(None)
        expect(list(call) == [], "more than was asked for")
        expect(call.code() == grpc.StatusCode.OK, call.code())
    expect(server.wait() == 0, "exit code of the server")


def run(name, function, *arguments):
    begin = time.monotonic()
    try:
        function(*arguments)
    except Exception as error:  # a case that fails must not hide the others
        print(f"FAILED {name}: {type(error).__name__}: {error}")
        return False
    print(f"passed {name} ({(time.monotonic() - begin) * 1000:.0f} ms)")
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", required=True)
    parser.add_argument("--plain", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        modules = load_messages(directory)
    server = Server(arguments.server, arguments.plain)
    results = []
    try:
        # A connection each: a grpcio client that cancels very early may reset a stream it never
        # opened, for which HTTP/2 (RFC 9113, 5.1) wants the connection closed.
        for case in CASES:
            with server.channel() as channel:
                results.append(run(case.__name__, case, Client(channel, modules)))
        if not arguments.plain:
            for case in REFUSALS:
                results.append(run(case.__name__, case, server, modules))
        results.append(run("drain", drain, server, modules))
    finally:
        if server.process.poll() is None:
            server.process.kill()
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
