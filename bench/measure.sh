#!/usr/bin/env bash
# measure.sh - the figures of docs/performance.md in one run, as Markdown: steps over their floor, the
# exchange, strong scaling, threads against ranks, what 8 logical ranks cost, and
# what the watchdog costs.
#   bench/measure.sh [BUILD]        (default build/release; needs data/mnist.h5 and two idle cores)
# Absolute times drift on shared machines: the two sides of every comparison alternate, and what counts
# is the median of the ratios of neighbours. REPEATS=7 sets how many; PARTS="scaling watchdog" picks parts
# out of: floor exchange scaling train hybrid logical watchdog.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/release}
data=${DATA:-data/mnist.h5}
repeats=${REPEATS:-7}
parts=${PARTS:-floor exchange scaling train hybrid logical watchdog}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OPENBLAS_NUM_THREADS=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

does() { case " $parts " in *" $1 "*) return 0 ;; esac; return 1; }

# A message of 1 KiB between two cores, in microseconds: cores that the host of a virtual machine moves far
# apart take three times as long, and everything that two ranks do together suffers.
latency() {
    mpirun -np 2 "$build/mnist_dist" bench --model mlp16 --steps 5 --repeats 1 --messages 200 --images 2000 |
        awk '$1 == 1024 { print "1 KiB by MPI_Allreduce " $2 " us, shared " $4 " us" }'
}

# rate FILE: images/s of the last epoch
rate() { grep '"event":"epoch"' "$1" | tail -n 1 | sed 's/.*"images_per_second":\([-+0-9.e]*\).*/\1/'; }

# one NAME COMMAND...: images/s of the last epoch of a training run, appended to $work/NAME
one() {
    local name=$1
    shift
    rm -f "$work/m.jsonl"
    "$@" --metrics "$work/m.jsonl" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
    rate "$work/m.jsonl" >>"$work/$name"
}

# median FILE
median() { sort -g "$1" | awk '{ v[NR] = $1 } END { printf "%.6g", (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }

train=("$build/mnist_dist" train --data "$data" --checkpoint-dir none --progress never --epochs 2)

# compare WHAT BAR NAME_A NAME_B: one row; the commands are in the arrays A and B
compare() {
    local what=$1 bar=$2 name_a=$3 name_b=$4
    rm -f "$work/a" "$work/b"
    for ((i = 0; i < repeats; i++)); do
        if ((i % 2 == 0)); then one a "${A[@]}"; one b "${B[@]}"; else one b "${B[@]}"; one a "${A[@]}"; fi
    done
    paste "$work/a" "$work/b" | awk '{ print $2 / $1 }' | sort -g >"$work/ratio"
    printf '| %s | %s: %.0f | %s: %.0f | **%.3f** | %.3f to %.3f | %s |\n' "$what" "$name_a" \
        "$(median "$work/a")" "$name_b" "$(median "$work/b")" "$(median "$work/ratio")" \
        "$(head -n 1 "$work/ratio")" "$(tail -n 1 "$work/ratio")" "$bar"
}

head_of_comparison() {
    printf '\n| | first side, images/s | second side, images/s | second over first | range of %d | wanted |\n' "$repeats"
    echo '| --- | --- | --- | ---: | --- | --- |'
}

echo "Measured $(date -u +%Y-%m-%d), $(nproc) cores, $(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)," \
    "$(mpirun --version | head -n 1), load before: $(cut -d' ' -f1-3 /proc/loadavg)"
latency

if does floor; then
    # The strictest floor: OpenBLAS 0.3.21 does not know newer AMD CPUs and would take slower kernels.
    core=()
    if grep -qw avx512f /proc/cpuinfo; then core=(OPENBLAS_CORETYPE=SkylakeX); fi
    printf '\n### A step over its floor %s\n\n```\n' "${core[*]}"
    env "${core[@]}" "$build/bench/bench_step" "$data" 15
    echo '```'
fi

if does exchange; then
    printf '\n### Exchange and optimizer together, 2 ranks\n\n```\n'
    mpirun -np 2 "$build/bench/bench_exchange" 400
    echo '```'
fi

# two_alone MODEL: two runs at the same time, each on a core of its own, that share nothing
two_alone() {
    local core
    for core in 0 1; do
        taskset -c $core "${train[@]}" --model "$1" --metrics "$work/alone-$core.jsonl" >/dev/null &
    done
    wait
    for core in 0 1; do rate "$work/alone-$core.jsonl"; done | awk '{ n += $1 } END { print n }' >>"$work/b"
}

if does scaling; then
    printf '\n### mnist_dist bench, 2 ranks\n'
    for model in mlp512 cnn mlp16; do
        printf '\n```\n'
        mpirun -np 2 "$build/mnist_dist" bench --data "$data" --model "$model" --steps 100 --repeats $((repeats + 4))
        echo '```'
    done
fi

if does train; then
    latency
    printf '\n### Strong scaling of whole epochs, batch 128, beside what two cores can give at all\n\n'
    echo '*Two at once* are two single runs that share nothing,'
    echo 'each on a core of its own: 2.00 if the cores did not disturb each other. The three take turns.'
    printf '\n| | 1 rank, images/s | 2 ranks | two at once | 2 ranks over 1 | range of %d | two at once over 1 | 2 ranks over two at once |\n' \
        "$repeats"
    echo '| --- | ---: | ---: | ---: | ---: | --- | ---: | ---: |'
    for model in mlp512 cnn; do
        rm -f "$work/a" "$work/b" "$work/c"
        for ((i = 0; i < repeats; i++)); do
            one c mpirun -np 2 "${train[@]}" --model "$model"
            one a mpirun -np 1 "${train[@]}" --model "$model"
            two_alone "$model"
        done
        paste "$work/a" "$work/c" | awk '{ print $2 / $1 }' | sort -g >"$work/ratio"
        paste "$work/a" "$work/b" | awk '{ print $2 / $1 }' >"$work/alone"
        paste "$work/b" "$work/c" | awk '{ print $2 / $1 }' >"$work/both"
        printf '| %s | %.0f | %.0f | %.0f | **%.3f** | %.3f to %.3f | %.3f | %.3f |\n' "$model" \
            "$(median "$work/a")" "$(median "$work/c")" "$(median "$work/b")" "$(median "$work/ratio")" \
            "$(head -n 1 "$work/ratio")" "$(tail -n 1 "$work/ratio")" "$(median "$work/alone")" \
            "$(median "$work/both")"
    done
fi

if does hybrid; then
    latency
    printf '\n### Threads against ranks, batch 128\n'
    head_of_comparison
    for model in cnn mlp512; do
        A=(mpirun -np 2 "${train[@]}" --model "$model" --threads 1)
        B=("${train[@]}" --model "$model" --threads 2)
        compare "$model" 'at least 0.85 (cnn)' '2 ranks x 1 thread' '1 rank x 2 threads'
    done
fi

if does logical; then
    printf '\n### What 8 logical ranks cost on one rank\n'
    head_of_comparison
    for model in mlp512 cnn; do
        for batch in 128 1024; do
            A=("${train[@]}" --model "$model" --batch-size "$batch" --logical-ranks 8)
            B=("${train[@]}" --model "$model" --batch-size "$batch" --logical-ranks 1)
            bar=1.15
            [ "$model" != cnn ] || bar=1.08
            [ "$batch" = 128 ] || bar=1.10
            compare "$model, batch $batch" "at most $bar" 'V = 8' 'V = 1'
        done
    done
fi

if does watchdog; then
    printf '\n### The watchdog, 2 ranks, batch 128\n'
    head_of_comparison
    for model in mlp16 mlp512; do
        A=(mpirun -np 2 "${train[@]}" --model "$model" --stall-timeout 300)
        B=(mpirun -np 2 "${train[@]}" --model "$model" --stall-timeout 0)
        compare "$model" 'near 1' 'on' 'off'
    done
fi
printf '\nLoad after: %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)"
latency
