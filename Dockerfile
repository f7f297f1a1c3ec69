# Every node of a cluster on Kubernetes: `clusters/kuberay.yaml` says how.
# Pinned by version; pin by digest too where the registry can be changed under you.
FROM python:3.11.14-slim-bookworm

# wget: the operator's probes. g++: torch.compile makes kernels with it (Triton's for GPUs need its C
# compiler alone, those for CPUs C++). rsync, ssh: none are needed, unlike for `ray up`.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 ray

WORKDIR /home/ray/momo
COPY requirements.lock .
RUN pip install --no-cache-dir -r requirements.lock

COPY . .
# hatchling, which builds our own package, is in the lock.
RUN pip install --no-cache-dir --no-deps --no-build-isolation -e . && chown -R ray:ray .

USER ray
# The last one: a task that asked for no GPU sees none.
ENV RAY_USAGE_STATS_ENABLED=0 WANDB_DIR=/tmp RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=1
