#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
#
# Reads lines of a label, a tab, and a shell command, and runs the commands in order. Prints each label and the duration of its command in
# microseconds, including the start and exit of programs. Commands with the label "-" run without a printed duration. If a command fails, the
# script prints the end of that command's output and exits.
set -u
output=$(mktemp)
trap 'rm -f "$output"' EXIT
while IFS=$'\t' read -r -u 9 label line; do
    begin=$EPOCHREALTIME
    eval "$line" > "$output" 2>&1 < /dev/null
    status=$?
    end=$EPOCHREALTIME
    if ((status)); then
        printf '%s exited with status %s:\n' "$line" "$status" >&2
        tail -c 3000 "$output" >&2
        exit 1
    fi
    [[ $label == - ]] || printf '%s\t%s\n' "$label" $((${end//[^0-9]/} - ${begin//[^0-9]/}))
done 9< "${1:-/dev/stdin}"
