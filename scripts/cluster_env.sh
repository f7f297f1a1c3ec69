#!/bin/sh
# What the nodes of a cluster need and no repository may hold, from this shell's environment into
# .cluster (readable by you alone): settings for W&B and storage, and the token of Ray's cluster.
set -eu
umask 077
mkdir -p .cluster
: > .cluster/env
for name in WANDB_API_KEY WANDB_PROJECT WANDB_ENTITY HF_TOKEN AWS_REGION AWS_ENDPOINT_URL MOMO_TASK_DATA; do
    eval "value=\${$name:-}"
    if [ -n "$value" ]; then
        printf "%s='%s'\n" "$name" "$(printf %s "$value" | sed "s/'/'\\\\''/g")" >> .cluster/env
    fi
done
grep -q WANDB_API_KEY .cluster/env || echo "WANDB_MODE=offline" >> .cluster/env
if [ ! -s .cluster/auth_token ]; then
    python3 -c "import secrets; print(secrets.token_hex(32), end='')" > .cluster/auth_token
fi
echo "cluster-env: .cluster/env has $(cut -d= -f1 .cluster/env | tr '\n' ' ')and .cluster/auth_token is Ray's token"
echo "cluster-env: for commands from here: export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$(pwd)/.cluster/auth_token"
