# The images of hybrid-runner and control-plane: from nothing, with one program, the libraries it is linked against and
# the certificates of public authorities. No shell, no package manager, user 65532.
#
#   docker build --target agent -t hybrid-runner:0.1.0 .          (also the default target)
#   docker build --target control-plane -t control-plane:0.1.0 .
#   docker buildx build --platform linux/amd64,linux/arm64 --sbom=true --provenance=true --target agent …
#
# Pin what you build with: --build-arg RUST_IMAGE=…@sha256:…. The final images have no base that could change.
ARG RUST_IMAGE=rust:1.95-slim-bookworm

FROM ${RUST_IMAGE} AS build
# The final images have no list of packages: the SBOM is made of this stage, Cargo.lock included.
# What is linked into each program, as CycloneDX: tools/sbom, to be attested beside it (cosign attest --type cyclonedx).
ARG BUILDKIT_SBOM_SCAN_STAGE=true
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates cmake g++ make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --profile dist --locked --package hybrid-runner --package control-plane \
    && tools/image root target/dist/hybrid-runner /roots/agent \
    && tools/image root target/dist/control-plane /roots/control-plane

FROM scratch AS control-plane
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="control-plane" \
      org.opencontainers.image.description="The reference control plane of Hybrid Runner" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /roots/control-plane /
USER 65532:65532
ENTRYPOINT ["/usr/bin/control-plane"]
CMD ["serve", "--config", "/etc/control-plane/control-plane.yaml"]

FROM scratch AS agent
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="hybrid-runner" \
      org.opencontainers.image.description="An agent that catalogues a Salesforce org from inside its owner's network" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /roots/agent /
# One heap in place of one a thread, and large buffers given back at once: a fifth less memory at the peak of a run for
# less than a tenth more CPU (docs/performance.md).
ENV MALLOC_ARENA_MAX=1 MALLOC_MMAP_THRESHOLD_=262144 MALLOC_TRIM_THRESHOLD_=2097152
USER 65532:65532
ENTRYPOINT ["/usr/bin/hybrid-runner"]
CMD ["run", "--config", "/etc/hybrid-runner/hybrid-runner.yaml"]
