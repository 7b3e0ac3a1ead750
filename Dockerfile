# An image for CPUs, of any x86-64 with AVX2 (2013 and later) or any 64-bit ARM. docs/install.md says how to use it.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim-trixie AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/smolcli
WORKDIR /src
COPY constraints.txt .
# Not for the CPU of the machine that builds, and without llama.cpp's library for its own tools, as docs/install.md says.
ENV CMAKE_ARGS="-DGGML_NATIVE=OFF -DCMAKE_PROJECT_llama_cpp_INCLUDE=/src/no-common.cmake"
RUN echo 'set(LLAMA_BUILD_COMMON OFF)' > no-common.cmake \
    && /opt/smolcli/bin/pip install --no-cache-dir -c constraints.txt llama-cpp-python
# openvino, which encodes pictures 1.7 to 5 times as fast, makes a larger image.
ARG EXTRAS=llamacpp,video,pdf,searchable,formats,schema
COPY . .
RUN /opt/smolcli/bin/pip install --no-cache-dir -c constraints.txt ".[${EXTRAS}]"

FROM python:${PYTHON}-slim-trixie
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --no-create-home smolcli \
    && install -d -m 1777 /models /work
COPY --from=build /opt/smolcli /opt/smolcli
# Models, settings and caches are kept in the volume, whatever user the container runs as.
ENV PATH=/opt/smolcli/bin:$PATH HF_HOME=/models/huggingface XDG_CACHE_HOME=/models/cache XDG_CONFIG_HOME=/models/config
VOLUME /models
WORKDIR /work
USER 1000
ENTRYPOINT ["smolcli"]
CMD ["--help"]
