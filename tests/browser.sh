# shellcheck shell=bash
# A headless Chromium, driven by chromedriver over HTTP, to be sourced after servers.sh: `start_browser`, and
# `stop_browser` at the end.

driver_pid='' driver='' session=''

setup_browser() {
    local -a missing=()
    is_program chromium || missing+=(chromium)
    is_program chromedriver || missing+=(chromium-driver)
    is_program jq || missing+=(jq)
    is_program curl || missing+=(curl)
    ((${#missing[@]})) || return 0
    update_lists "${missing[@]}"
    install_missing "${missing[@]}"
}

start_browser() {
    local port capabilities
    port=$(free_port)
    driver=http://127.0.0.1:$port
    # Its profile is below the servers' directory, and goes with it.
    # shellcheck disable=SC2154 # servers.sh sets it
    TMPDIR=$servers_dir setsid chromedriver --port="$port" >"$servers_dir/chromedriver.log" 2>&1 &
    driver_pid=$!
    await_server "$driver_pid" curl -sf "$driver/status" || die "chromedriver does not start"
    capabilities='{"capabilities": {"alwaysMatch": {"goog:loggingPrefs": {"browser": "ALL"}, "goog:chromeOptions": {"args":
        ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", "--lang=en"]}}}}'
    session=$(webdriver POST /session "$capabilities" | jq -r .sessionId)
}

stop_browser() {
    [[ -z $session ]] || curl -s -X DELETE "$driver/session/$session" >/dev/null || true
    stop_server "$driver_pid" TERM
    session='' driver_pid=''
}

# webdriver METHOD PATH [BODY]: prints the value of the answer.
webdriver() {
    local answer
    answer=$(curl -s -X "$1" "$driver$2" ${3:+--json "$3"}) || die "chromedriver does not answer"
    if [[ $(jq -r '.value | objects | .error // empty' <<<"$answer") ]]; then
        jq -r .value.message <<<"$answer" >&2
        die "chromedriver refuses $2"
    fi
    jq .value <<<"$answer"
}

in_session() { webdriver "$1" "/session/$session$2" "${3-}"; }

# devtools COMMAND PARAMETERS: a command of Chromium's own protocol.
devtools() { in_session POST /goog/cdp/execute "{\"cmd\": \"$1\", \"params\": $2}"; }

visit() { in_session POST /url "$(jq -n --arg url "$1" '{url: $url}')" >/dev/null; }

# evaluate SCRIPT [ARGUMENT]: prints what the script returns, as JSON.
evaluate() {
    in_session POST /execute/sync "$(jq -n --arg script "$1" --arg argument "${2-}" '{script: $script, args: [$argument]}')"
}

# use_window WIDTH SCHEME: a window of this many pixels, in light or dark. A narrow one is a phone's.
use_window() {
    local is_phone=false
    (($1 > 600)) || is_phone=true
    devtools Emulation.setDeviceMetricsOverride \
        "{\"width\": $1, \"height\": 900, \"deviceScaleFactor\": 1, \"mobile\": $is_phone}" >/dev/null
    devtools Emulation.setEmulatedMedia "{\"features\": [{\"name\": \"prefers-color-scheme\", \"value\": \"$2\"}]}" >/dev/null
}

# take_picture FILE: of the whole page.
take_picture() {
    devtools Page.captureScreenshot '{"captureBeyondViewport": true}' | jq -r .data | base64 -d >"$1"
}

# Prints what the browser has logged since the last call: errors of scripts, and what the page's policy refused.
console() { in_session POST /se/log '{"type": "browser"}' | jq -r '.[].message'; }
