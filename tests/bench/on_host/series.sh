#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
#
# Runs what stdin says, a line each: a label, a tab, a shell line. Prints for each label the microseconds from the line's start to its end:
# a program's start and end are in it. A label "-" is run and not told. The first line that fails ends it, with what that line printed.
set -u
output=$(mktemp)
trap 'rm -f "$output"' EXIT
while IFS=$'\t' read -r -u 9 label line; do
    begin=$EPOCHREALTIME
    eval "$line" > "$output" 2>&1 < /dev/null
    status=$?
    end=$EPOCHREALTIME
    if ((status)); then
        printf '%s ended with %s:\n' "$line" "$status" >&2
        tail -c 3000 "$output" >&2
        exit 1
    fi
    [[ $label == - ]] || printf '%s\t%s\n' "$label" $((${end//[^0-9]/} - ${begin//[^0-9]/}))
done 9< "${1:-/dev/stdin}"
