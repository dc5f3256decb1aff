# Two images of tercet, both without root. The demo of docker-compose.yml, by default; and, with
# --target autoinstrumentation, what the OpenTelemetry Operator copies into pods (configs/scale).
# With a compiler, for a part of the request path is quicker in C; the images get what it makes.
FROM python:3.13.9 AS source
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE ./
COPY src src

FROM source AS autoinstrumentation-build
RUN pip install --no-cache-dir --target /autoinstrumentation ".[grpc]" && chmod -R go+rX /autoinstrumentation

FROM busybox:1.37.0 AS autoinstrumentation
COPY --from=autoinstrumentation-build /autoinstrumentation /autoinstrumentation
USER 10001

FROM source AS demo-build
RUN python -m venv /opt/tercet && /opt/tercet/bin/pip install --no-cache-dir ".[demo]"

FROM python:3.13.9-slim AS demo
COPY --from=demo-build /opt/tercet /opt/tercet
ENV PATH=/opt/tercet/bin:$PATH
USER 10001
ENTRYPOINT ["tercet"]
CMD ["demo"]
