"""The standard gRPC interop cases through a gateway, by grpcio on both ends.

Usage: grpc_cases.py ADMIN PROXY [TLS]: URL of the Admin API, host:port of a cleartext HTTP/2
listener and of a TLS one. Starts its own server, makes a service and a route, runs each case over
each listener, prints a line for each, and ends with status 1 if one failed.
"""

import json
import ssl
import sys
import threading
import time
import urllib.request
from concurrent import futures

import grpc

SERVICE = "interop.Test"


class Server(grpc.GenericRpcHandler):
    """Methods on plain bytes: no generated code is needed."""

    def service(self, call):
        name = call.method.rsplit("/", 1)[1]
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        return {
            "Empty": unary(lambda request, context: b""),
            "Size": unary(lambda request, context: b"\0" * int(request[:16])),
            "Echo": unary(self.echo),
            "Status": unary(self.status),
            "Sleep": unary(self.sleep),
            "Collect": grpc.stream_unary_rpc_method_handler(self.collect),
            "Many": grpc.unary_stream_rpc_method_handler(self.many),
            "PingPong": stream(self.ping_pong),
        }.get(name)

    @staticmethod
    def echo(request, context):
        told = dict(context.invocation_metadata())
        context.send_initial_metadata([("x-initial", told.get("x-initial", ""))])
        context.set_trailing_metadata([("x-trailing-bin", told.get("x-trailing-bin", b""))])
        return request

    @staticmethod
    def status(request, context):
        context.abort(grpc.StatusCode.UNKNOWN, request.decode())

    @staticmethod
    def sleep(request, context):
        time.sleep(float(request))
        return b""

    @staticmethod
    def collect(requests, context):
        return str(sum(len(request) for request in requests)).encode()

    @staticmethod
    def many(request, context):
        for size in json.loads(request):
            yield b"\0" * size

    @staticmethod
    def ping_pong(requests, context):
        for request in requests:
            yield b"\0" * int(request[:16])


def admin(base, path, body):
    request = urllib.request.Request(
        base + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


class Cases:
    def __init__(self, channel):
        def of(kind):
            return lambda name: getattr(channel, kind)(f"/{SERVICE}/{name}")

        self.unary = of("unary_unary")
        self.up = of("stream_unary")
        self.down = of("unary_stream")
        self.both = of("stream_stream")

    def empty_unary(self):
        assert self.unary("Empty")(b"", timeout=10) == b""

    def large_unary(self):
        request = b"314159".ljust(16).ljust(271828, b"\0")
        assert len(self.unary("Size")(request, timeout=20)) == 314159

    def client_streaming(self):
        sizes = (27182, 8, 1828, 45904)
        answer = self.up("Collect")(iter([b"\0" * n for n in sizes]), timeout=20)
        assert answer == b"74922", answer

    def server_streaming(self):
        sizes = [31415, 9, 2653, 58979]
        answers = self.down("Many")(json.dumps(sizes).encode(), timeout=20)
        assert [len(answer) for answer in answers] == sizes

    def ping_pong(self):
        turn = threading.Semaphore(0)
        sizes = [31415, 9, 2653, 58979]

        def requests():
            for size in sizes:
                yield str(size).encode().ljust(16)
                assert turn.acquire(timeout=10)

        found = []
        for answer in self.both("PingPong")(requests(), timeout=20):
            found.append(len(answer))
            turn.release()
        assert found == sizes, found

    def empty_stream(self):
        assert list(self.both("PingPong")(iter([]), timeout=10)) == []

    def custom_metadata(self):
        sent = (("x-initial", "test_initial"), ("x-trailing-bin", b"\xab\xab\xab"))
        answer, call = self.unary("Echo").with_call(b"x", timeout=10, metadata=sent)
        initial, trailing = dict(call.initial_metadata()), dict(call.trailing_metadata())
        assert answer == b"x" and initial.get("x-initial") == "test_initial", initial
        assert trailing.get("x-trailing-bin") == b"\xab\xab\xab", trailing

    def refused(self, call, code, details=None):
        try:
            call()
        except grpc.RpcError as error:
            assert error.code() == code, (error.code(), error.details())
            assert details is None or error.details() == details, error.details()
            return
        raise AssertionError("it was not refused")

    def status_code_and_message(self):
        words = "test status message"
        self.refused(
            lambda: self.unary("Status")(words.encode(), timeout=10),
            grpc.StatusCode.UNKNOWN,
            words,
        )

    def special_status_message(self):
        words = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n"
        self.refused(
            lambda: self.unary("Status")(words.encode(), timeout=10),
            grpc.StatusCode.UNKNOWN,
            words,
        )

    def unimplemented_method(self):
        self.refused(
            lambda: self.unary("Missing")(b"", timeout=10), grpc.StatusCode.UNIMPLEMENTED
        )

    def cancel_after_begin(self):
        wait = threading.Event()
        call = self.up("Collect").future(iter(lambda: wait.wait(5) and None, None), timeout=10)
        call.cancel()
        wait.set()
        assert call.cancelled() and call.code() == grpc.StatusCode.CANCELLED

    def cancel_after_first_response(self):
        wait = threading.Event()

        def requests():
            yield b"31415".ljust(16)
            wait.wait(5)

        call = self.both("PingPong")(requests(), timeout=10)
        assert len(next(call)) == 31415
        call.cancel()
        wait.set()
        self.refused(lambda: next(call), grpc.StatusCode.CANCELLED)

    def timeout_on_sleeping_server(self):
        self.refused(
            lambda: self.unary("Sleep")(b"1", timeout=0.2), grpc.StatusCode.DEADLINE_EXCEEDED
        )


NAMES = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "custom_metadata",
    "status_code_and_message",
    "special_status_message",
    "unimplemented_method",
    "cancel_after_begin",
    "cancel_after_first_response",
    "timeout_on_sleeping_server",
]


def run(title, channel):
    """Runs every case; how many failed."""
    failed, cases = 0, Cases(channel)
    for name in NAMES:
        try:
            getattr(cases, name)()
            print(f"ok   {title} {name}")
        except Exception as error:
            failed += 1
            print(f"FAIL {title} {name}: {error!r}"[:400])
    channel.close()
    return failed


def main():
    base, plain, secure = (sys.argv[1:] + [None])[:3]
    server = grpc.server(futures.ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers((Server(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    admin(base, "/services", {"name": "grpc", "url": f"grpc://127.0.0.1:{port}"})
    route = {"protocols": ["grpc", "grpcs"], "paths": [f"/{SERVICE}"], "name": "grpc"}
    admin(base, "/services/grpc/routes", route)
    failed = run("grpc", grpc.insecure_channel(plain))
    if secure:
        host, _, port = secure.rpartition(":")
        pem = ssl.get_server_certificate((host, int(port)))
        trusted = grpc.ssl_channel_credentials(pem.encode())
        named = (("grpc.ssl_target_name_override", "localhost"),)
        failed += run("grpcs", grpc.secure_channel(secure, trusted, named))
    server.stop(None)
    sys.exit(1 if failed else 0)


main()
