#!/bin/sh
# What the nodes of a cluster need and no repository may hold, from this shell's environment into
# .cluster (readable by you alone): settings for W&B and storage, and the token of Ray's cluster.
# A name that this shell does not have keeps what .cluster/env says of it.
set -eu
umask 077
mkdir -p .cluster
touch .cluster/env
: > .cluster/env.new
for name in WANDB_API_KEY WANDB_PROJECT WANDB_ENTITY HF_TOKEN AWS_REGION AWS_ENDPOINT_URL MOMO_TASK_DATA; do
    eval "value=\${$name:-}"
    if [ -z "$value" ]; then
        grep "^$name=" .cluster/env >> .cluster/env.new || true
    elif [ "$(printf %s "$value" | wc -l)" -ne 0 ]; then
        rm .cluster/env.new
        echo "cluster-env: $name has more than one line: give it as one" >&2
        exit 1
    else
        printf "%s='%s'\n" "$name" "$(printf %s "$value" | sed "s/'/'\\\\''/g")" >> .cluster/env.new
    fi
done
grep -q WANDB_API_KEY .cluster/env.new || echo "WANDB_MODE=offline" >> .cluster/env.new
mv .cluster/env.new .cluster/env
if [ ! -s .cluster/auth_token ]; then
    python3 -c "import secrets; print(secrets.token_hex(32), end='')" > .cluster/auth_token
fi
echo "cluster-env: .cluster/env has $(cut -d= -f1 .cluster/env | tr '\n' ' ')and .cluster/auth_token is Ray's token"
echo "cluster-env: for commands from here: export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$(pwd)/.cluster/auth_token"
