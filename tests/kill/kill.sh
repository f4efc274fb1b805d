#!/usr/bin/env bash
# usage: kill.sh PROGRAM — kills a random rank, or mpirun itself, with SIGKILL at a random moment, goes on
# with a random number of ranks, again and again; whenever a run gets to its end it must have the same
# figures for every epoch, each once, and the same weights as a run that nobody disturbed.
#
# MND_KILLS: how many (5; 60 with MND_LONG=1). MND_SEED: what it draws from; printed, so that the same
# sequence can be tried again (the moments are the same only as far as the machine is as fast).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/support/runs.sh
. "$here/../support/runs.sh"
program=$(realpath "$1")
kills=${MND_KILLS:-5}
exchanges=(auto)
if [ "${MND_LONG:-}" = 1 ]; then
    kills=${MND_KILLS:-60}
    exchanges=(auto tree shared)
fi
seed=${MND_SEED:-$((RANDOM * 32768 + RANDOM))}
echo "seed $seed (MND_SEED), $kills kills"
RANDOM=$((seed % 32768))
# Two draws: one alone has 15 bits.
draw() { drawn=$(((RANDOM * 32768 + RANDOM) % $1)); }

work=$(mktemp -d)
launcher=
clean_up() {
    [ -z "$launcher" ] || kill -KILL "$launcher" "${ranks[@]}" 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
cd "$work"
epochs=24
"$program" synth -o data.h5 --images 1024 --test-images 256 --seed 1 >synth.log 2>&1 || fail "$(cat synth.log)"
arguments=(train --data data.h5 --model mlp16 --epochs "$epochs" --batch-size 64 --seed 3 --logical-ranks 8
    --checkpoint-every 3 --progress never)

begin=$EPOCHREALTIME
launch_ranks 2 "$program" "${arguments[@]}" --checkpoint-dir reference --metrics reference.jsonl \
    >reference.log 2>&1 || fail "the undisturbed run: $(cat reference.log)"
# Milliseconds; the moments are drawn from this.
whole=$(((${EPOCHREALTIME/./} - ${begin/./}) / 1000))
same_facts reference.jsonl reference.jsonl "$epochs" || fail "the undisturbed run is not whole"

alive() { kill -0 "$1" 2>/dev/null; }
gone() {
    local rank
    for rank in "${ranks[@]}"; do ! alive "$rank" || return 1; done
}
# The processes that mpirun started; they may come and go while this looks.
find_ranks() { read -ra ranks <"/proc/$launcher/task/$launcher/children" 2>/dev/null || true; }
writing() { compgen -G "$folder/.ckpt-*.tmp.*" >/dev/null; }
newest() { basename "$(readlink "$folder/latest" 2>/dev/null || echo none)" .h5; }

done_kills=0 run=0 whole_runs=0 torn=0 ranks=()
declare -A count=([rank]=0 [mpirun]=0)
while :; do
    # A new run, started as often as it takes.
    run=$((run + 1)) start=0
    folder=run$run
    while :; do
        start=$((start + 1))
        draw 8 && np=$((drawn + 1))
        draw ${#exchanges[@]} && exchange=${exchanges[drawn]}
        draw 3 && how=$drawn
        draw "$whole" && moment=$drawn
        draw 25 && nth=$drawn
        draw 4 && victim=mpirun && [ "$drawn" -eq 0 ] || victim=rank
        draw "$np" && which=$drawn
        # Rank 0 writes the checkpoints.
        [ "$how" -ne 2 ] || which=0
        ranks=()
        # Not by the function: the process in the background must be mpirun itself.
        "${MPIEXEC:-mpirun}" -np "$np" "$program" "${arguments[@]}" --exchange "$exchange" --resume auto \
            --checkpoint-dir "$folder" --metrics "$folder.jsonl" >"$folder.log" 2>&1 </dev/null &
        launcher=$!
        if [ "$done_kills" -lt "$kills" ]; then
            if [ "$how" -eq 0 ]; then
                when="$moment ms after the start"
                sleep "$((moment / 1000)).$(printf '%03d' $((moment % 1000)))"
            else
                # While the checkpoint after the nth from here is being written.
                when="in a checkpoint"
                for ((i = 0; i < nth; i++)); do
                    before=$(newest)
                    while alive "$launcher" && [ "$(newest)" = "$before" ]; do :; done
                done
                while alive "$launcher" && ! writing; do :; done
            fi
            if alive "$launcher"; then
                find_ranks
                if [ "$victim" = rank ] && [ "$which" -lt "${#ranks[@]}" ]; then
                    kill -KILL "${ranks[which]}" 2>/dev/null || true
                    whom="rank $which of $np"
                else
                    victim=mpirun
                    kill -KILL "$launcher" 2>/dev/null || true
                    whom="mpirun with $np ranks"
                fi
            else
                victim=
            fi
        else
            victim=
        fi
        code=0
        wait "$launcher" 2>/dev/null || code=$?
        wait_for 30 gone || fail "30 s after the end of mpirun (code $code) ranks are still there: ${ranks[*]}"
        launcher=
        if [ "$code" -eq 0 ]; then
            break # at its end, perhaps in spite of a kill that came too late
        elif [ -z "$victim" ]; then
            fail "run $run, start $start on $np ranks: code $code without a kill: $(tail -n 20 "$folder.log")"
        fi
        done_kills=$((done_kills + 1))
        count[$victim]=$((count[$victim] + 1))
        half=
        if writing; then
            torn=$((torn + 1))
            half=", a checkpoint half written"
        fi
        echo "run $run, start $start: $whom, $exchange, killed $when, at $(newest)$half"
    done
    same_facts reference.jsonl "$folder.jsonl" "$epochs" ||
        fail "run $run, after $start starts, differs from one that was never disturbed"
    [ "$(grep -c '"event":"start"' "$folder.jsonl")" -le "$start" ] || fail "more starts than there were"
    whole_runs=$((whole_runs + 1))
    echo "run $run: the same bits after $start starts"
    [ "$done_kills" -lt "$kills" ] || break
done
passed "$done_kills kills (${count[rank]} ranks, ${count[mpirun]} mpirun, $torn with a checkpoint half" \
    "written), $whole_runs runs, no difference"
