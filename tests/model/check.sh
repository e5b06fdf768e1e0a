#!/usr/bin/env bash
# Checks one model exhaustively, and that each fault it names is found.
set -euo pipefail

usage() {
    cat <<'EOF'
usage: check.sh MODEL.pml [FAULT...]

Searches every interleaving of the model with spin: no assertion may fail and no state be stuck.
Then breaks it by each FAULT (a macro of the model): that must be found, or the model proves nothing.
EOF
}

case "${1:-}" in
-h | --help | "") usage; exit 0 ;;
esac
name=$(basename "$1" .pml)
model=$name.pml
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cp "$1" "$dir"
shift
cd "$dir"

# search NAME SPIN-ARGUMENTS...: prints spin's verdict; 0 when it found nothing wrong, 1 when it did
search() {
    local name=$1
    shift
    spin -a "$@" "$model" >spin.out || { cat spin.out; exit 2; }
    rm -f pan # so that no other model is searched should this one not compile
    gcc -O2 -w -DSAFETY -DCOLLAPSE -DNOFAIR -DMEMLIM=6000 -o pan pan.c || exit 2
    ./pan -m2000000 >pan.out 2>&1 || true
    if ! grep -q '^State-vector' pan.out || grep -qE 'max search depth too small|out of memory' pan.out; then
        cat pan.out
        echo "$name: the search was not complete"
        exit 2
    fi
    states=$(awk '/states, stored/ {print $1; exit}' pan.out)
    grep -q 'errors: 0' pan.out
}

if ! search "$name"; then
    cat pan.out
    spin -t -p -g "$model" | tail -n 80
    echo "$name: wrong"
    exit 1
fi
echo "$name: right in all $states states"
for fault in "$@"; do
    if search "$name" "-D$fault"; then
        echo "$name: $fault was not found"
        exit 1
    fi
    echo "$name: $fault is found"
done
