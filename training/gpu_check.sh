#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
#
# Measure one machine in about 40 minutes and write a page of figures:
#
#     bash training/gpu_check.sh runs/gpu_check             on one GPU
#     SMALL=1 bash training/gpu_check.sh runs/small_check   a trial on a CPU, about 5 minutes
#
# Finished parts are kept in the folder, so that the same command resumes a stopped check; the page
# is OUT/page.md. Other settings by environment variables: see below.
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${1:-runs/gpu_check}
PYTHON=${PYTHON:-python}
WORKERS=${WORKERS:-$(nproc)}
RECIPE=${RECIPE:-training/recipes/marigold_v1_0.yaml}
if [ -n "${SMALL:-}" ]; then
    ENGINE=${ENGINE:---model tiny --size 96x128 --resolution 128 --runs 3 --rounds 2}
    VARIANTS=${VARIANTS:-channels_last bfloat16}
    FRAMES=${FRAMES:-3}
    STEP=${STEP:---networks small --scale 0.2 --accumulation 2 --steps 2}
    TRAINED=${TRAINED:-training/recipes/debug.yaml}
    MINUTES=${MINUTES:-1}
    SCORE=${SCORE-}
else
    ENGINE=${ENGINE:---arch sd2}
    VARIANTS=${VARIANTS:-all}
    FRAMES=${FRAMES:-20}
    STEP=${STEP:---networks sd2 --steps 3}
    TRAINED=${TRAINED:-training/recipes/tiny.yaml}
    MINUTES=${MINUTES:-20}
    SCORE=${SCORE---score}
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "$OUT"

# Runs a part whose last line of output is its JSON file, unless that exists. Functions return at
# the first error by themselves: `set -e` has no effect left of ||.
part() {
    local name=$1
    shift
    if [ -s "$OUT/$name.json" ]; then
        echo "$name: done before"
        return
    fi
    echo "$name: started $(date +%H:%M:%S), log in $OUT/$name.log"
    "$@" >"$OUT/$name.draft" 2>"$OUT/$name.log" || {
        echo "$name failed; the end of its log:" >&2
        tail -n 3 "$OUT/$name.log" >&2
        exit 1
    }
    mv "$OUT/$name.draft" "$OUT/$name.json"
}

# Word splitting of the settings is meant.
# shellcheck disable=SC2086
part engine "$PYTHON" -m marigold_ros benchmark $ENGINE --variants $VARIANTS --against diffusers --json
part frame "$PYTHON" -m marigold_ros benchmark frame --runs "$FRAMES" --json
for precision in float32 bf16; do
    # shellcheck disable=SC2086
    part "step_$precision" "$PYTHON" training/measure_step.py "$RECIPE" --precision "$precision" $STEP
done

render() {
    "$PYTHON" training/finetune.py "$TRAINED" --out "$OUT/run" --data "$OUT/data" \
        --workers "$WORKERS" --data-only 1>&2 || return
    echo '{}'
}

# From its start if it was stopped, so that the figures are of one stretch of time.
train() {
    rm -rf "$OUT/run"
    local began=$SECONDS
    # shellcheck disable=SC2086
    "$PYTHON" training/finetune.py "$TRAINED" --out "$OUT/run" --data "$OUT/data" \
        --workers "$WORKERS" --minutes "$MINUTES" $SCORE 1>&2 || return
    echo "{\"recipe\": \"$TRAINED\", \"minutes\": $MINUTES, \"seconds\": $((SECONDS - began))}"
}

began=$SECONDS
part render render
[ -s "$OUT/render.seconds" ] || echo $((SECONDS - began)) >"$OUT/render.seconds"
part train train
"$PYTHON" training/check_page.py "$OUT" >"$OUT/page.md"
cat "$OUT/page.md"
