#!/bin/sh
# Captions for photographs from a running `captionlens serve`, with curl.
#
#   sh caption.sh holiday/*.jpg
#   CAPTIONLENS_URL=https://example.org/captions CAPTIONLENS_TOKEN=... sh caption.sh photo.jpg
#
# Prints path<TAB>caption a line. What fails is told on stderr, the others go on, and the exit code is 1.

url=${CAPTIONLENS_URL:-http://127.0.0.1:8000}
answer=$(mktemp) || exit 1
trap 'rm -f "$answer"' EXIT
failed=0

# The text under a name of the JSON in $answer. With jq: jq -r ".$1" "$answer"
field() {
    sed -nE 's/.*"'"$1"'": ?"(([^"\\]|\\.)*)".*/\1/p' "$answer" | sed -E 's/\\(.)/\1/g'
}

authorization() {
    [ -z "$CAPTIONLENS_TOKEN" ] || printf 'Authorization: Bearer %s\n' "$CAPTIONLENS_TOKEN"
}

for photograph in "$@"; do
    if ! [ -f "$photograph" ] || ! [ -r "$photograph" ]; then
        printf '%s: cannot be read\n' "$photograph" >&2
        failed=1
        continue
    fi
    case $photograph in
        *.jpg | *.jpeg | *.JPG | *.JPEG) type=image/jpeg ;;
        *.png | *.PNG) type=image/png ;;
        *.webp | *.WEBP) type=image/webp ;;
        *) type=application/octet-stream ;; # the service looks at the content anyhow
    esac
    # curl waits as long as Retry-After says and tries again after 429 and 503. The token comes through a pipe, since
    # other users can see what stands on a command line.
    status=$(authorization | curl -sS --max-time 120 --retry 4 --retry-max-time 300 \
        -H @- -H "Content-Type: $type" --data-binary "@$photograph" \
        -o "$answer" -w '%{http_code}' "${url%/}/v1/caption")
    if [ "$status" = 200 ]; then
        printf '%s\t%s\n' "$photograph" "$(field caption)"
        continue
    elif [ "$status" = 000 ]; then # curl has told why
        printf '%s: no answer\n' "$photograph" >&2
    else
        printf '%s: %s (status %s)\n' "$photograph" "$(field detail)" "$status" >&2
    fi
    failed=1
done
exit "$failed"
