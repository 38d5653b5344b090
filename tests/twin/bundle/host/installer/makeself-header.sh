# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
#
# Header for makeself (`makeself --header FILE`).  makeself sources this file twice
# (to count its lines, then to write them), with the archive's figures in variables.
#
# Why not the stock header: it parses options itself and wants the payload's options
# after `--`, while `sh NVIDIA-….run -s --dkms` is what everybody types.  This header
# keeps the few options that concern the archive and hands all the rest, untouched,
# to the installer inside.  It also does with five processes what the stock header
# does with some fifty, which counts on an emulated machine.
cat << EOF > "$archname"
#!/bin/sh
# This script was generated using Makeself $MS_VERSION, with its own header.

label="$LABEL"
script="$SCRIPT"
targetdir="$archdirname"
filesizes="$filesizes"
totalsize="$totalsize"
uncompressed_kb="$USIZE"
CRCsum="$CRCsum"
MD5="$MD5sum"
SHA="$SHAsum"
skip="$SKIP"

umask 022
archive="\$0"
tmproot="\${TMPDIR:-/tmp}"
mode=run
keep=n
target=

fail()
{
    echo "ERROR: \$*" >&2
    exit 1
}

payload()
{
    tail -n +\$((skip + 1)) "\$archive"
}

verify()
{
    sum=\`payload | sha256sum\` || fail "cannot read \$archive."
    test "\${sum%% *}" = "\$SHA" || {
        echo "Error in SHA256 checksum: \$archive is damaged or incomplete." >&2
        exit 2
    }
}

unpack()
{
    set -- "\$1" \`stat -f -c '%a %S' "\$1"\`
    free=\$((\${2:-0} * \${3:-0} / 1024))
    test "\$free" -ge \$((uncompressed_kb * 2)) ||
        fail "not enough space in \$1: \$free KiB free, \$((uncompressed_kb * 2)) KiB wanted.  Choose another place with --tmpdir=DIR."
    payload | gzip -cd | (cd "\$1" && tar -xf - --no-same-owner) || fail "cannot unpack \$archive into \$1."
}

# Look at the options that concern the archive; "\$@" stays as it is for the installer.
expect=
for arg in "\$@"; do
    case "\$expect" in
    target) target=\$arg; keep=y; expect=; continue ;;
    tmpdir) tmproot=\$arg; expect=; continue ;;
    esac
    case "\$arg" in
    --check) mode=check ;;
    --info) mode=info ;;
    --list) mode=list ;;
    -x | --extract-only) mode=extract ;;
    --target=*) target=\${arg#--target=}; keep=y ;;
    --target) expect=target ;;
    --keep) keep=y ;;
    --tmpdir=*) tmproot=\${arg#--tmpdir=} ;;
    --tmpdir) expect=tmpdir ;;
    esac
done
test -z "\$expect" || fail "option --\$expect wants a value."

case \$mode in
check)
    echo "Verifying archive integrity..."
    verify
    echo "All good."
    exit 0 ;;
info)
    echo "Identification:    \$label"
    echo "Target directory:  \$targetdir"
    echo "Uncompressed size: \$uncompressed_kb KB"
    echo "Compression:       $COMPRESS"
    echo "Date of packaging: $DATE"
    echo "Built with:        Makeself $MS_VERSION"
    exit 0 ;;
list)
    payload | gzip -cd | tar -tf -
    exit \$? ;;
esac

test -d "\$tmproot" || fail "the temporary directory \$tmproot does not exist."
verify
if test \$mode = extract || test \$keep = y; then
    dir=\${target:-./\$targetdir}
    test -e "\$dir" && fail "\$dir already exists; remove it or choose another place with --target DIR."
    mkdir -p "\$dir" || fail "cannot create \$dir."
    dir=\`cd "\$dir" && pwd\`
else
    dir=\`mktemp -d "\$tmproot/makeself.XXXXXXXX"\` || fail "cannot create a directory in \$tmproot."
    trap 'rm -rf "\$dir"' EXIT
    trap 'exit 143' TERM
    trap 'exit 130' INT
    trap 'exit 129' HUP
fi
unpack "\$dir"
if test \$mode = extract; then
    echo "Extracted to \$dir"
    exit 0
fi
"\$dir/\$script" "\$@"
exit \$?
EOF
