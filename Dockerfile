# Fairlead as an image: the runtime and one JavaScript program, no shell, no package manager, no PostgreSQL (set DATABASE_URL).
# Runs as nobody, on a read-only file system; /data and /tmp are what it writes.
#
#   docker buildx build --platform linux/amd64,linux/arm64 -t fairlead .

# The build needs npm, and npm any Node; what is built and shipped is the Node of the lockfile.
FROM node:22-bookworm-slim AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends libatomic1 \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /repository
COPY . .
RUN npm ci --ignore-scripts --no-audit --no-fund \
 && npm run image

# glibc, libstdc++, certificates, and a user 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="Fairlead" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /repository/dist/image/fairlead /fairlead
COPY --from=build --chown=65532:65532 /repository/dist/image/data /data
ENV HOME=/data \
    HOST=0.0.0.0 \
    PORT=3003 \
    FAIRLEAD_DATA_DIR=/data \
    LD_LIBRARY_PATH=/fairlead/lib
WORKDIR /data
USER 65532:65532
VOLUME /data
EXPOSE 3003
# After SIGTERM it serves on until load balancers have seen that it is not ready.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["/fairlead/bin/node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/health`).then(answer => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["/fairlead/bin/node", "/fairlead/server/dist/server/src/main.js"]
