# Four images from one file; the last is the default:
#
#   docker build -t outrigger:0.2.0 .                                  the sidecar and the webhook
#   docker build -t outrigger-agents:0.2.0 --target agents .           gateway, agents, offline provider
#   docker build -t outrigger-tools:0.2.0 --target tools .             the tool runner (docs/tools.md)
#   docker build -t outrigger-intercept:0.2.0 --target intercept .     the step that redirects a pod's traffic
#
# The base is pinned by its full version: Node's, because the compile cache is only good for the Node that made it, and
# Debian's name. A registry of your own, or a digest, goes in by --build-arg NODE_IMAGE=…
#
# The labels say what an image was made from; `docker build $(node scripts/image-labels.mjs) …` takes revision, time and
# source from git. /outrigger/sbom.cdx.json lists what is in the sidecar's and the agents' image, as CycloneDX.
ARG NODE_IMAGE=docker.io/library/node:24.21.0-bookworm-slim
ARG VERSION=0.2.0
ARG REVISION=""
ARG CREATED=""
ARG SOURCE=""
ARG DOCUMENTATION="$SOURCE"

# --- The bundle, and V8's compiled code for it, at the path where it will lie.
FROM ${NODE_IMAGE} AS bundle
WORKDIR /outrigger
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY scripts scripts
COPY sidecar sidecar
# The user of the image, because the cache of another user is not used; --max-semi-space-size, because the flags count.
RUN mkdir dist && chown 15000:15000 dist
USER 15000:15000
RUN node --max-semi-space-size=4 scripts/bundle.mjs --compile --packages /tmp/bundled \
 && sed -i '1s|.*|#!/usr/local/bin/node --max-semi-space-size=4|' dist/outrigger.mjs

# --- A root with Node, the libraries it loads, and nothing else.
FROM ${NODE_IMAGE} AS root
RUN mkdir -p /image/usr/local/bin /image/etc /image/tmp \
 && chmod 1777 /image/tmp \
 && cp "$(readlink -f "$(command -v node)")" /image/usr/local/bin/node \
 && ldd /image/usr/local/bin/node > /tmp/ldd \
 && grep -o '/[^ ]*' /tmp/ldd > /tmp/libraries \
 && xargs -a /tmp/libraries -I{} cp --parents -L {} /image \
 && echo 'outrigger:x:15000:15000::/:/sbin/nologin' > /image/etc/passwd \
 && echo 'outrigger:x:15000:' > /image/etc/group \
 && echo 'hosts: files dns' > /image/etc/nsswitch.conf \
 && ln -s /outrigger/dist/outrigger.mjs /image/usr/local/bin/outrigger

# --- What the images contain: npm's packages, Node, and Debian's. The sidecar's has those of the bundle, and libraries.
FROM ${NODE_IMAGE} AS sbom
WORKDIR /outrigger
COPY package.json package-lock.json Dockerfile ./
COPY scripts scripts
COPY --from=root /tmp/libraries ./
COPY --from=bundle /tmp/bundled ./
RUN dpkg-query --show --showformat '${Package} ${Version} ${Architecture}\n' > packages \
 && sed 's|.*/|*/|' libraries > patterns \
 && xargs dpkg --search < patterns > found \
 && cut -d: -f1 found > owners \
 && awk 'NR == FNR { owns[$1]; next } $1 in owns' owners packages > owned \
 && node scripts/sbom.mjs --debian packages --out agents.cdx.json \
 && node scripts/sbom.mjs --packages bundled --debian owned --out sidecar.cdx.json

# --- Gateway, agents and provider run from their sources; Node strips the types.
FROM ${NODE_IMAGE} AS agents
WORKDIR /outrigger
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund \
 && npm cache clean --force
COPY proto proto
COPY LICENSE ./
COPY agents agents
COPY sidecar/node sidecar/node
COPY --from=sbom /outrigger/agents.cdx.json ./sbom.cdx.json
ARG VERSION
ARG REVISION
ARG CREATED
ARG SOURCE
ARG DOCUMENTATION
LABEL org.opencontainers.image.title="outrigger-agents" \
      org.opencontainers.image.description="The gateway, the example agents and the offline model provider of Outrigger" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.documentation="$DOCUMENTATION" \
      org.opencontainers.image.licenses="Apache-2.0"
# Memory: the peaks of a gateway with many large tasks are a fifth lower so.
ENV NODE_ENV=production NODE_OPTIONS=--max-semi-space-size=4 MALLOC_ARENA_MAX=1
USER 1000:1000
ENTRYPOINT ["node"]
CMD ["agents/gateway/main.ts"]

# --- The helper that starts, watches and ends the runs of tools: one static program, with musl's C library, as it starts fast.
FROM ${NODE_IMAGE} AS confine
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev musl-tools && rm -rf /var/lib/apt/lists/*
WORKDIR /confine
COPY agents/tools/confine ./
RUN musl-gcc -O2 -Wall -Wextra -static -idirafter /usr/include -idirafter "/usr/include/$(gcc -print-multiarch)" \
      -o /usr/local/bin/confine ./*.c

# --- The tool runner: the agents' image with what a sandbox is made of, and Python. An operator's own tools come on top of it.
FROM agents AS tools
# hadolint ignore=DL3002
USER 0:0
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends bubblewrap python3 && rm -rf /var/lib/apt/lists/* \
 && mkdir /var/lib/outrigger-tools && chown 15000:15000 /var/lib/outrigger-tools
COPY --from=confine /usr/local/bin/confine /usr/local/bin/confine
LABEL org.opencontainers.image.title="outrigger-tools" \
      org.opencontainers.image.description="The tool runner of Outrigger: programs in a sandbox, for agents"
# The first process of the container is the runner: nothing of a run outlives it.
USER 15000:15000
CMD ["agents/tools/agent.ts"]

# --- Reads an nftables script from its argument. Runs as root with NET_ADMIN, for a moment, in pods that ask for it.
FROM ${NODE_IMAGE} AS intercept
# A fixed version of a Debian package is gone from the mirrors with the next security update.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends nftables && rm -rf /var/lib/apt/lists/*
ARG VERSION
ARG REVISION
ARG CREATED
ARG SOURCE
ARG DOCUMENTATION
LABEL org.opencontainers.image.title="outrigger-intercept" \
      org.opencontainers.image.description="The step that redirects a pod's gRPC to its Outrigger sidecar" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.documentation="$DOCUMENTATION" \
      org.opencontainers.image.licenses="Apache-2.0"
# The redirection changes the network of its pod: that is what root and NET_ADMIN are for.
# hadolint ignore=DL3002
USER 0:0
ENTRYPOINT ["/usr/sbin/nft"]

# --- The sidecar: no shell, no package manager, a root that can be read-only.
FROM scratch AS outrigger
COPY --from=root /image /
COPY --from=bundle /outrigger/dist /outrigger/dist
COPY --from=sbom /outrigger/sidecar.cdx.json /outrigger/sbom.cdx.json
COPY LICENSE /outrigger/
ARG VERSION
ARG REVISION
ARG CREATED
ARG SOURCE
ARG DOCUMENTATION
LABEL org.opencontainers.image.title="outrigger" \
      org.opencontainers.image.description="A resilience sidecar for AI agents that talk gRPC, and its admission webhook" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.documentation="$DOCUMENTATION" \
      org.opencontainers.image.licenses="Apache-2.0"
# One arena: what several threads would keep apart, an idle sidecar has no use for.
ENV PATH=/usr/local/bin NODE_ENV=production MALLOC_ARENA_MAX=1
USER 15000:15000
EXPOSE 15006 15020 15021
ENTRYPOINT ["/usr/local/bin/outrigger"]
CMD ["run"]
