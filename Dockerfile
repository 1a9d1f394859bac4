# Two images: email-service (the default) with all programs, and auth-service, the example.
#
#   docker build -t email-service .
#   docker build -t auth-service --target auth-service .
#
# BASE_IMAGE: any Debian 13 base. BuildKit is not needed.
ARG BASE_IMAGE=debian:trixie-slim

# ---- build: what the image gets is gathered under /image ----
FROM ${BASE_IMAGE} AS build
WORKDIR /src
COPY scripts/install-packages.sh scripts/
RUN scripts/install-packages.sh build && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY . .
RUN cmake --preset release -DCMAKE_INSTALL_RPATH=/usr/local/lib \
    && cmake --build --preset release \
    && cmake --install build/release --prefix /usr/local --strip \
    && rm -rf build \
    && mkdir -p /image/usr/local/lib \
    && cp -a /usr/local/bin /image/usr/local/ \
    && find /usr/local/lib -maxdepth 1 -name '*.so.*' -exec cp -a -t /image/usr/local/lib {} + \
    && install -D -m 644 LICENSE /image/usr/share/doc/email-service/copyright

# ---- what both images share: the libraries, and a user without rights ----
FROM ${BASE_IMAGE} AS runtime
RUN apt-get -q update \
    && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends \
        ca-certificates libcurl4t64 libhiredis1.1.0 libidn2-0 libjansson4 libmicrohttpd12t64 librdkafka1 libssl3t64 \
        libxxhash0 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log \
        /usr/share/man/* /usr/share/locale/* /usr/share/info/* \
    && groupadd --system --gid 10001 email \
    && useradd --system --uid 10001 --gid email --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin email \
    && mkdir /etc/email-service
# Empty, and read-only for the programs: a .env file or templates may be mounted here.
WORKDIR /etc/email-service
USER 10001:10001
STOPSIGNAL SIGTERM

FROM runtime AS email-service
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="email-service" \
      org.opencontainers.image.description="Transactional email from Kafka to an SMTP relay, once" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image/ /
EXPOSE 8085
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/email-service", "--health-check"]
ENTRYPOINT ["/usr/local/bin/email-service"]

# ---- the example, built as its users build theirs: against the installed library ----
FROM build AS build-auth-service
RUN cmake -S examples/auth-service -B build/auth-service -G Ninja -DCMAKE_BUILD_TYPE=Release \
        -DCMAKE_INSTALL_RPATH=/usr/local/lib \
    && cmake --build build/auth-service \
    && rm -rf /image/usr/local/bin build/release \
    && cmake --install build/auth-service --prefix /image/usr/local --strip \
    && rm -rf build

FROM runtime AS auth-service
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="auth-service" \
      org.opencontainers.image.description="Example: publishes verification codes with the email-producer library" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build-auth-service /image/ /
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/${AUTH_SERVICE_PORT:-8080} && printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3 && read -r -u 3 -t 5 _ status _ && [ \"$status\" = 200 ]"]
ENTRYPOINT ["/usr/local/bin/auth-service"]

# ---- the default target ----
FROM email-service
