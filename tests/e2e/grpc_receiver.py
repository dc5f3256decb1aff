"""A collector for tests: OTLP over gRPC, by gRPC's own server."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from receiver import Receiver

_SERVICES = {
    "/v1/traces": "opentelemetry.proto.collector.trace.v1.TraceService",
    "/v1/metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
    "/v1/logs": "opentelemetry.proto.collector.logs.v1.LogsService",
}
Answer = tuple[grpc.StatusCode, str]


class GrpcReceiver(Receiver):
    """Listen for gRPC while the block is open; what is answered with anything but OK is not kept."""

    protocol = "grpc"

    def __init__(
        self, port: int = 0, answer: Callable[[], Answer | None] = lambda: None, **options: int
    ) -> None:
        super().__init__()
        self._server.server_close()
        self._answer = answer
        self._answering = threading.Lock()
        #: What came before each request, as its sender named it.
        self.metadata: list[dict[str, Any]] = []
        self._grpc = grpc.server(
            ThreadPoolExecutor(8), options=[(f"grpc.{name}", value) for name, value in options.items()]
        )
        self._grpc.add_generic_rpc_handlers(
            tuple(
                grpc.method_handlers_generic_handler(service, {"Export": self._handler(path)})
                for path, service in _SERVICES.items()
            )
        )
        self._port = self._grpc.add_insecure_port(f"127.0.0.1:{port}")

    @property
    def endpoint(self) -> str:
        """Say where to send."""
        return f"http://127.0.0.1:{self._port}"

    def _handler(self, path: str) -> grpc.RpcMethodHandler:
        def export(body: bytes, context: grpc.ServicerContext) -> bytes:
            self.metadata.append(dict(context.invocation_metadata()))
            with self._answering:
                answer = self._answer()
            if answer is not None:
                context.abort(*answer)
            self.take(path, body)
            return b""

        return grpc.unary_unary_rpc_method_handler(export, None, None)

    def __enter__(self) -> "GrpcReceiver":
        self._grpc.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._grpc.stop(None).wait()
