# One image for the service and the workers. TORCH_INDEX names another package index for torch's CPU or CUDA build.
FROM python:3.12-slim AS build
ARG TORCH_INDEX=
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY tuner tuner
COPY api api
COPY studies studies
RUN python -m venv /opt/tuner \
 && /opt/tuner/bin/pip install --no-cache-dir --no-compile ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
      -c constraints.txt "$(grep -i '^torch==' constraints.txt)" \
 && /opt/tuner/bin/pip install --no-cache-dir --no-compile -c constraints.txt . \
 && { /opt/tuner/bin/python -m compileall -qq -j 0 -x '/tests?/' --invalidation-mode unchecked-hash /opt/tuner/lib || true; }

FROM python:3.12-slim
# torch.compile (`train.compile: true`) calls a C++ compiler
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 10001 tuner && mkdir -p /data /cache /artifacts && chown tuner /cache /artifacts
COPY --from=build /opt/tuner /opt/tuner
ENV PATH=/opt/tuner/bin:$PATH TUNER_DATA_ROOT=/data TUNER_CACHE=/cache TUNER_ARTIFACTS=/artifacts
USER tuner
ENTRYPOINT ["tuner"]
CMD ["--help"]
