# One image for every service of docker-compose.yml; the service's command is the verb of `headwater`.
# BuildKit is not needed, and nothing is fetched when it runs: the encoder's weights are in it.
FROM python:3.11.14-slim-bookworm

# cpu or gpu: which of the two packages named faiss is installed.
ARG FAISS=cpu
# Where torch comes from instead of pip's default, whose build for Linux brings some gigabytes of CUDA: for the cpu image
# PyTorch's own index of CPU builds may be named here.
ARG TORCH_INDEX=""

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PIP_DISABLE_PIP_VERSION_CHECK=1

# LightGBM needs libgomp. A named volume takes over the owner of the folder that it is mounted on.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 headwater \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin headwater \
    && install --directory --owner=10001 --group=10001 \
        /data /data/archive /data/bundles /data/spool /data/vectors

WORKDIR /app

# The largest layer comes first: it is made anew when the pinned versions change, and not with the code.
COPY constraints.txt ./
RUN python -m pip install -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch

# An editable install (docs/adr/0001) needs the metadata alone; the code may follow.
COPY pyproject.toml README.md LICENSE ./
RUN python -m pip install -c constraints.txt -e ".[${FAISS},kafka]"

COPY . .
RUN python -m compileall -q /app && headwater --version

# Where ./headwater.toml and relative paths of settings are looked for, and what the service may write to.
WORKDIR /data
USER 10001:10001
ENTRYPOINT ["headwater"]
CMD ["--help"]
