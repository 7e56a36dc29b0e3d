# Two stages: build with the Rust image, run on slim Debian as an unprivileged user.
# All UM ports are above 1024, so no capability is needed. Use host networking: every call takes RTP ports.
#   docker build -t umbra . && docker run --rm --network host -v /etc/umbra:/etc/umbra:ro umbra
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The image of the compiler has libssl-dev and pkg-config.
RUN cargo build --release --locked -p umbra --features openssl

FROM debian:12-slim
RUN apt-get update && apt-get install -y --no-install-recommends libssl3 && rm -rf /var/lib/apt/lists/*
RUN useradd --system --home-dir /var/lib/umbra --create-home umbra
COPY --from=build /src/target/release/umbra /usr/local/bin/umbra
COPY config/umbra.toml /usr/share/umbra/umbra.example.toml
USER umbra
WORKDIR /var/lib/umbra
# The configuration folder is mounted read-only; records go where this user may write.
ENV UMBRA__OBSERVE__CDR__DIR=/var/lib/umbra/cdr
EXPOSE 5060/tcp 5061/tcp
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/umbra"]
CMD ["run", "-c", "/etc/umbra/umbra.toml"]
